"""`python -m harness.suites.html_charsets CHECKOUT`: the encoding cases of html5lib-tests.

Each is a page and the encoding that its byte order mark or its markup declares, or windows-1252; what the detector says
of a page that declares nothing is not compared. Prints how many are as expected, and each difference. Exits with status
1 if there is one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from fetchq.contract.text.charset import MARKS, encoding_of
from fetchq_worker.fetch.content.declared import declared_in_html


def read_cases(folder: Path) -> Iterator[tuple[bytes, str | None]]:
    for path in sorted(folder.glob("*.dat")):
        for case in re.split(rb"(?:^|\n)#data\n", path.read_bytes())[1:]:
            page, _, label = case.partition(b"\n#encoding\n")
            yield page, encoding_of(label.split(b"\n")[0].decode())


def declared(page: bytes) -> str:
    mark = next((name for mark, name in MARKS if page.startswith(mark)), None)
    return mark or declared_in_html(page) or "windows-1252"


def main() -> int:
    cases = list(read_cases(Path(sys.argv[1]) / "encoding"))
    different = [(page, expected) for page, expected in cases if declared(page) != expected]
    for page, expected in different:
        print(f"{page[:200]!r}\n    found    {declared(page)}\n    expected {expected}")
    print(f"{len(cases) - len(different)} of {len(cases)} as expected")
    return int(bool(different) or not cases)


if __name__ == "__main__":
    sys.exit(main())
