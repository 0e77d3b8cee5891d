"""The blocks of docs/performance.md between markers, which a run writes. The rest of the page is not changed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.testbed.failure import BenchFailure
from bench.testbed.processes import REPO

PAGES: Final = REPO / "docs" / "performance"
PAGE: Final = REPO / "docs" / "performance.md"


def put(block: str, text: str, page: Path = PAGE) -> None:
    """Replaces the text between `<!-- block -->` and `<!-- end of block -->`. Raises `BenchFailure` without them."""
    begin, end = f"<!-- {block}: written by the bench -->", f"<!-- end of {block} -->"
    whole = page.read_text()
    before, found_begin, rest = whole.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise BenchFailure(f"{page.name} has no block {block!r}: it is to stand between {begin} and {end}")
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")
