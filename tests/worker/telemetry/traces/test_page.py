"""docs/observability.md lists the attributes of the spans."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
MODULES = [ROOT / "producer/fetchq/telemetry/traces.py", ROOT / "worker/fetchq_worker/telemetry/traces.py"]


def _table(name: str) -> list[tuple[set[str], str]]:
    page = (ROOT / "docs/observability.md").read_text(encoding="utf-8")
    rows = page.split(f"<!-- table: {name} -->\n", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    cells = [row.strip("| ").split(" | ") for row in rows]
    return [(set(re.findall(r"`([\w.]+)`", first)), spans) for first, spans, *_ in cells]


def test_the_table_lists_the_attributes_that_the_code_sets() -> None:
    text = "\n".join(module.read_text(encoding="utf-8") for module in MODULES)
    names = set(re.findall(r'"((?:messaging|server|error|http|url|fetchq)\.[a-z_.]+)"', text)) - {"fetchq.traces"}
    assert set().union(*(names for names, _ in _table("attributes"))) == names


@pytest.mark.parametrize("prefix", ["http.", "url."])
def test_the_table_says_of_which_span_an_attribute_is(prefix: str) -> None:
    assert {spans for names, spans in _table("attributes") for name in names if name.startswith(prefix)} == {"`GET`"}
