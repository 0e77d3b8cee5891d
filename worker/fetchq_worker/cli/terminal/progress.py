"""The progress of a run, on stderr: one line that is redrawn on a terminal, a line every few seconds elsewhere.

There is no colour, and of control sequences only "return" and "erase line", and none if TERM is `dumb` or absent.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Final, Literal, Protocol

from fetchq.command.streams import print_error, say

from .text import span_text

BAR_INTERVAL_S: Final = 0.2
LINE_INTERVAL_S: Final = 5.0
MIN_BAR_CHARS: Final = 8
MAX_BAR_CHARS: Final = 30
_DEFAULT_COLUMNS: Final = 80
_ERASE: Final = "\r\x1b[K"

How = Literal["auto", "bar", "lines", "none"]


class Counts(Protocol):
    """The progress of a run."""

    @property
    def done(self) -> int: ...

    @property
    def failed(self) -> int: ...


class Progress:
    """Shows nothing."""

    interval_s: float = LINE_INTERVAL_S
    """The interval at which to call `show`."""

    def show(self, summary: Counts, total: int | None) -> None:
        """Shows the counts; `total` is the maximum count, None if unknown."""

    def note(self, sentence: str) -> None:
        """Prints a line beside the display."""
        print_error(sentence)

    def close(self) -> None:
        """Ends the display."""


def make_progress(*, stdout_is_results: bool, how: How = "auto") -> Progress:
    """With `auto`, a bar if stderr is a terminal that does not show the results as well; else lines."""
    if how == "auto":
        at_terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        how = "bar" if at_terminal and not (stdout_is_results and sys.stdout.isatty()) else "lines"
    return {"bar": BarProgress, "lines": LineProgress, "none": Progress}[how]()


class BarProgress(Progress):
    """A bar and the counts, in one line that is redrawn."""

    interval_s = BAR_INTERVAL_S

    def __init__(self) -> None:
        self._started_s = time.monotonic()

    def show(self, summary: Counts, total: int | None) -> None:
        elapsed_s = time.monotonic() - self._started_s
        say(_ERASE + progress_text(summary, total, elapsed_s, columns=_columns_of_stderr()))

    def note(self, sentence: str) -> None:
        say(_ERASE)
        print_error(sentence)

    def close(self) -> None:
        say(_ERASE)


def _columns_of_stderr() -> int:
    """The width of the terminal; stdout, whose width `shutil.get_terminal_size` reads, may be a file."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _DEFAULT_COLUMNS
    except (OSError, ValueError):
        return _DEFAULT_COLUMNS


class LineProgress(Progress):
    """Plain lines. A run that ends before the first is due prints none."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()

    def show(self, summary: Counts, total: int | None) -> None:
        elapsed_s = time.monotonic() - self._started_s
        if elapsed_s >= self.interval_s:
            say(f"fetchq: {progress_text(summary, total, elapsed_s)}\n")


def progress_text(summary: Counts, total: int | None, elapsed_s: float, *, columns: int | None = None) -> str:
    """The counts, the rate, and the times in words, as in `6 s elapsed, about 24 s left`.

    With `columns`, narrower than that: a bar comes first if there is room, and the time elapsed is left out if not.
    """
    rate = summary.done / max(elapsed_s, 1e-3)
    counts = f"{summary.done:,}{'' if total is None else f' of {total:,}'} done"
    parts = [counts, *([f"{summary.failed:,} failed"] if summary.failed else []), f"{rate:,.0f}/s"]
    elapsed = [f"{span_text(elapsed_s)} elapsed"]
    left = []
    if total is not None and 0 < summary.done < total:
        left = [f"about {span_text(max(1.0, (total - summary.done) / rate))} left"]
    text = ", ".join(parts + elapsed + left)
    if columns is None:
        return text
    room = min(columns - len(text) - 4, MAX_BAR_CHARS)
    if total and room >= MIN_BAR_CHARS:
        filled = min(room, room * summary.done // total)
        return f"[{'#' * filled}{'.' * (room - filled)}] {text}"
    return (text if room >= -3 else ", ".join(parts + left))[: columns - 1]
