"""The progress of a run, on stderr: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Final, Protocol

BAR_INTERVAL_S: Final = 0.2
LINE_INTERVAL_S: Final = 5.0


class Counts(Protocol):
    """The progress of a run."""

    @property
    def done(self) -> int: ...

    @property
    def failed(self) -> int: ...


class Progress(Protocol):
    interval_s: float
    """The interval at which to call `show`."""

    def show(self, summary: Counts, total: int | None) -> None:
        """Shows the counts; `total` is the maximum count, None if unknown."""

    def close(self) -> None: ...


def make_progress(*, stdout_is_results: bool) -> Progress:
    """A bar if stderr is a terminal that does not show the results as well; else lines."""
    bar_alone = sys.stderr.isatty() and not (stdout_is_results and sys.stdout.isatty())
    return BarProgress() if bar_alone else LineProgress()


class BarProgress:
    """A rich progress bar."""

    interval_s = BAR_INTERVAL_S

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415  # slow to load, and most commands draw no bar
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn  # noqa: PLC0415

        self._bar = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
        )
        self._task = self._bar.add_task("0", total=None)
        self._started_s = time.monotonic()
        self._bar.start()

    def show(self, summary: Counts, total: int | None) -> None:
        text = _counts(summary, total, time.monotonic() - self._started_s)
        self._bar.update(self._task, completed=summary.done, total=total, description=text)
        self._bar.refresh()

    def close(self) -> None:
        self._bar.stop()


class LineProgress:
    """Plain lines. A run that ends before the first is due prints none."""

    interval_s = LINE_INTERVAL_S

    def __init__(self) -> None:
        self._started_s = time.monotonic()

    def show(self, summary: Counts, total: int | None) -> None:
        elapsed_s = time.monotonic() - self._started_s
        if elapsed_s >= self.interval_s:
            sys.stderr.write(f"fetchq: {_counts(summary, total, elapsed_s)}\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Nothing to close."""


def _counts(summary: Counts, total: int | None, elapsed_s: float) -> str:
    of = "" if total is None else f" of {total:,}"
    failed = f", {summary.failed:,} failed" if summary.failed else ""
    return f"{summary.done:,}{of} done{failed}, {summary.done / max(elapsed_s, 1e-3):,.0f}/s"
