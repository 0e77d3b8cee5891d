"""Hosts as a table on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from fetchq import HostState
from fetchq.command.streams import printable
from fetchq_worker.cli.terminal.text import table_lines

_HEAD = ("host", "waiting", "due", "running", "next start", "last outcome")


def host_lines(states: Sequence[HostState]) -> list[str]:
    """A header and a line for each host; without any, a line that says so."""
    if not states:
        return ["no host has jobs that wait or run, or is in a cooldown"]
    return table_lines([_HEAD, *(_row(state) for state in states)], right=range(1, 4))


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
