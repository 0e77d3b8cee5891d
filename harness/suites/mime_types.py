"""`python -m harness.suites.mime_types CHECKOUT`: the cases of MIME types and Content-Type of web-platform-tests.

The folders mimesniff and fetch/content-type are enough. Prints how many values are as expected, and each difference.
Exits with status 1 if there is one.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from fetchq.contract.text.charset import encoding_of
from fetchq_worker.fetch.content.content_type import content_type_of, parse_mime_type

_MIME_TYPES: Final = ("mime-types.json", "generated-mime-types.json")

Case = tuple[str, object, object]
"""The input, what came out, and what the suite expects."""


def serialised(essence: str | None, parameters: dict[str, str]) -> str | None:
    """MIME sniffing standard, "serialize a MIME type"."""
    if essence is None:
        return None
    quoted = {
        name: value if re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", value, re.ASCII) else _quoted(value)
        for name, value in parameters.items()
    }
    return essence + "".join(f";{name}={value}" for name, value in quoted.items())


def _quoted(value: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def mime_type_cases(path: Path) -> Iterator[Case]:
    for case in json.loads(path.read_text()):
        if isinstance(case, str):  # a heading
            continue
        value, output = case["input"], case["output"]
        yield value, serialised(*parse_mime_type(value)), None if output is None else output.replace("; ", ";")
        if "encoding" in case:
            yield f"{value}: charset", _encoding((value,)), _lower(case["encoding"])


def content_type_cases(path: Path) -> Iterator[Case]:
    for case in json.loads(path.read_text()):
        fields = tuple(case["input"])
        expected = case["mimeType"].partition(";")[0], _lower(case["encoding"])
        yield repr(fields), (content_type_of(fields)[0], _encoding(fields)), expected


def _encoding(fields: tuple[str, ...]) -> str | None:
    charset = content_type_of(fields)[1]
    return None if charset is None else encoding_of(charset)


def _lower(name: Any) -> Any:
    return name and name.lower()


def main() -> int:
    checkout = Path(sys.argv[1])
    cases = [
        case for name in _MIME_TYPES for case in mime_type_cases(checkout / "mimesniff/mime-types/resources" / name)
    ]
    cases += content_type_cases(checkout / "fetch/content-type/resources/content-types.json")
    different = [case for case in cases if case[1] != case[2]]
    for value, found, expected in different:
        print(f"{value!r}\n    found    {found!r}\n    expected {expected!r}")
    print(f"{len(cases) - len(different)} of {len(cases)} as expected")
    return int(bool(different) or not cases)


if __name__ == "__main__":
    sys.exit(main())
