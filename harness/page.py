"""The parts of docs/reliability.md that runs write: sections between two markers."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from bench.report.machine import this_machine

PAGE: Final = Path(__file__).parents[1] / "docs" / "reliability.md"


class Section(msgspec.Struct, frozen=True):
    """The text between `<!-- name: begin -->` and `<!-- name: end -->`. Raises `ValueError` without them."""

    name: str
    page: Path = PAGE

    def read(self) -> str:
        return self._split()[1].strip("\n")

    def write(self, text: str) -> None:
        before, _, after = self._split()
        self.page.write_text(f"{before}\n{text}\n{after}", encoding="utf-8")

    def _split(self) -> tuple[str, str, str]:
        """The page before a section, the section, and the page after it, with the markers."""
        begin, end = f"<!-- {self.name}: begin -->", f"<!-- {self.name}: end -->"
        text = self.page.read_text(encoding="utf-8")
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"{self.page.name} has no section {self.name}")
        start, stop = text.index(begin) + len(begin), text.index(end)
        return text[:start], text[start:stop], text[stop:]


def where_and_when() -> str:
    """The machine of a run, and the date."""
    machine = this_machine()
    said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    version = said.partition("v=")[2].partition(" ")[0]
    return (
        f"{machine.cores} cores of an {machine.processor}, {machine.system}, Python {platform.python_version()},"
        f" Redis {version}, {datetime.now(UTC):%Y-%m-%d}"
    )
