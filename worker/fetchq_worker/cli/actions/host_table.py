"""Hosts as a table on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fetchq import HostState
from fetchq_worker.cli.terminal.text import printable

_HEAD = ("host", "waiting", "due", "running", "next start", "last outcome")


def host_lines(states: Sequence[HostState]) -> Iterator[str]:
    """A header and a line for each host; columns as wide as their content."""
    if not states:
        return
    rows = [_HEAD, *(_row(state) for state in states)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        cells = [
            f"{text:>{width}}" if 0 < column < 4 else f"{text:<{width}}"
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _row(state: HostState) -> tuple[str, ...]:
    return (
        printable(state.host),
        f"{state.waiting:,}",
        f"{state.due:,}",
        f"{state.running:,}",
        _next_start(state),
        printable(state.last_outcome or ""),
    )


def _next_start(state: HostState) -> str:
    if state.paused:
        return "paused"
    if state.cooldown_s is not None:
        return f"cooldown, {state.cooldown_s:,.1f} s"
    if state.next_start_s is not None:
        return f"in {state.next_start_s:,.1f} s"
    return "when one ends" if state.waiting else ""
