"""docs/job-contract.md agrees with the code: bytes, fields, defaults and outcomes."""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fetchq import FetchRequest, FetchResult, FetchStatus, RetryPolicy
from fetchq.contract import wire
from fetchq.contract.dead_letter import decode_dead_letter

PAGE = Path(__file__).parents[3] / "docs" / "job-contract.md"
EXAMPLES = re.findall(r"```hex ([\w-]+)\n(.*?)```\n```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def _plain(value: Any) -> Any:
    """Decoded msgpack as the page writes it in JSON."""
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case bytes():
            return f"base64:{base64.b64encode(value).decode()}"
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case _:
            return value


def test_the_page_has_six_examples() -> None:
    assert [kind for kind, _, _ in EXAMPLES] == ["job", "job", "job", "result", "result", "dead-letter"]


@pytest.mark.parametrize(("kind", "dump", "text"), EXAMPLES)
def test_the_bytes_of_an_example_are_those_of_its_json(kind: str, dump: str, text: str) -> None:
    assert _plain(msgspec.msgpack.decode(bytes.fromhex(dump))) == json.loads(text)


# The commit script writes dead letters: see tests/worker/engine/run/test_dead_letters.py.
@pytest.mark.parametrize(("kind", "dump", "text"), [example for example in EXAMPLES if example[0] != "dead-letter"])
def test_the_code_writes_the_bytes_of_the_examples(kind: str, dump: str, text: str) -> None:
    data = bytes.fromhex(dump)
    if kind == "job":
        job = wire.deserialize(data)
        request = wire.decode_request(job["a"][0])
        more = {name: job[name] for name in ("traceparent",) if name in job}
        assert wire.encode_job(job["f"], (request,), job["k"], job["et"], None, **more) == data
    else:
        stored = wire.decode_stored(data)
        result = msgspec.msgpack.decode(data)
        if stored.success:
            result["r"] = wire.decode_result(stored, stored.job_id)
        assert wire.serialize(result) == data


def test_the_dead_letter_of_the_page_is_read() -> None:
    dump = next(dump for kind, dump, _ in EXAMPLES if kind == "dead-letter")
    dead_letter = decode_dead_letter("j", 1_700_000_000_300, bytes.fromhex(dump))
    assert (dead_letter.status, dead_letter.tries, dead_letter.url) == ("TIMEOUT", 3, "https://example.org/")
    assert dead_letter.whole


def _table(heading: str) -> dict[str, str]:
    """A table of the page: the first cell of each row, and the rest."""
    text = PAGE.read_text(encoding="utf-8").split(f"<!-- table: {heading} -->\n", 1)[1].split("\n\n", 1)[0]
    rows = [line.strip("|").split("|", 1) for line in text.strip().splitlines()[2:]]
    return {cells[0].strip(" `"): cells[1] for cells in rows}


@pytest.mark.parametrize(
    ("heading", "struct"), [("request", FetchRequest), ("retry", RetryPolicy), ("result", FetchResult)]
)
def test_the_tables_list_every_field_with_its_default(heading: str, struct: type[msgspec.Struct]) -> None:
    table = _table(heading)
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    assert list(table) == list(fields)
    for name, field in fields.items():
        if field.required:
            assert "required" in table[name]
        elif isinstance(field.default, int | float | str | bool):
            assert f"`{json.dumps(field.default)}`" in table[name], name


def test_the_table_of_outcomes_lists_the_closed_set() -> None:
    table = _table("status")
    assert list(table) == [str(status) for status in FetchStatus]
    for status in FetchStatus:
        assert table[status].strip().startswith("yes") == status.retryable
