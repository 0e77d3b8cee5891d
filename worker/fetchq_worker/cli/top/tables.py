"""Tables of hosts and workers that drop columns where a terminal is narrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from fetchq import HostState
from fetchq.inspect.workers import WorkerRecord, WorkerState

from .words import CAUTION, FAULT, LABEL, MARKED, Glyphs, duration, next_start, number

_GAP: Final = "  "
_LATE_S: Final = 10.0
"""A heartbeat is late after this time, and after two intervals."""


class Column(NamedTuple):
    """One column of a table."""

    title: str
    width: int
    """At least; a column is as wide as its content where there is room."""
    keep: int
    """Columns with a higher number are dropped first."""
    right: bool = False


class Row(NamedTuple):
    """A cell for each column."""

    cells: tuple[str, ...]
    style: str = ""


HOST_COLUMNS: Final = (
    Column("host", 12, 0),
    Column("waiting", 9, 1, right=True),
    Column("due", 7, 4, right=True),
    Column("running", 7, 2, right=True),
    Column("next start", 24, 3),
    Column("last outcome", 16, 5),
)
WORKER_COLUMNS: Final = (
    Column("worker", 12, 0),
    Column("pid", 7, 3, right=True),
    Column("slots", 11, 1, right=True),
    Column("state", 9, 2),
    Column("heartbeat", 13, 2, right=True),
    Column("done", 8, 4, right=True),
    Column("version", 10, 6),
    Column("up", 11, 5, right=True),
)


def host_row(host: HostState, glyphs: Glyphs, *, queue_is_paused: bool) -> Row:
    style = CAUTION if host.paused or host.cooldown_s is not None else ""
    return Row(
        (
            glyphs.clean(host.host),
            number(host.waiting),
            number(host.due),
            number(host.running),
            next_start(host, queue_is_paused=queue_is_paused),
            glyphs.clean(host.last_outcome or ""),
        ),
        style,
    )


def worker_row(worker: WorkerRecord, now_ms: int, glyphs: Glyphs) -> Row:
    """`now_ms` is Redis's, as the time of the heartbeat. The start is by the worker's clock, which may differ."""
    silent_s = (now_ms - worker.heartbeat_ms) / 1000
    style = FAULT if is_silent(worker, now_ms) else "" if worker.state is WorkerState.RUNNING else CAUTION
    return Row(
        (
            glyphs.clean(worker.host),
            str(worker.pid),
            f"{number(worker.running)} of {number(worker.concurrency)}",
            worker.state,
            f"{duration(silent_s)} ago",
            number(worker.completed),
            glyphs.clean(worker.version),
            duration((now_ms - worker.started_at_ms) / 1000),
        ),
        style,
    )


def is_silent(worker: WorkerRecord, now_ms: int) -> bool:
    """Whether a heartbeat of the worker is missing."""
    return now_ms - worker.heartbeat_ms > max(_LATE_S, 2 * worker.heartbeat_s) * 1000


def table(
    columns: Sequence[Column], rows: Sequence[Row], width: int, glyphs: Glyphs, *, marked: int | None = None
) -> list[Text]:
    """A line of titles and one for each row, none wider than `width`. `marked`: the row with the `>`."""
    margin = 0 if marked is None else 2
    kept = _columns_that_fit(columns, width - margin)
    spare = width - margin - _width_of([columns[index] for index in kept])
    widths = {index: columns[index].width for index in kept}
    for index in sorted(kept, key=lambda index: columns[index].keep):
        longest = max((cell_len(row.cells[index]) for row in rows), default=0)
        more = max(0, min(spare, longest - widths[index]))
        widths[index] += more
        spare -= more

    def line(cells: Sequence[str], lead: str) -> str:
        parts = []
        for index in kept:
            text, room = cells[index], widths[index]
            pad = " " * max(0, room - cell_len(text)) if columns[index].right else ""
            parts.append(glyphs.fit(pad + text, room))
        return glyphs.fit(lead + _GAP.join(parts), width).rstrip()

    lines = [Text(line([column.title for column in columns], " " * margin), LABEL)]
    for place, row in enumerate(rows):
        lead = "" if marked is None else "> " if place == marked else "  "
        style = f"{row.style} {MARKED}".strip() if place == marked else row.style
        lines.append(Text(line(row.cells, lead), style))
    return lines


def _columns_that_fit(columns: Sequence[Column], width: int) -> list[int]:
    """The columns to show: those with the lowest `keep` first, as long as there is room; the first always."""
    kept: list[int] = [0]
    for index in sorted(range(1, len(columns)), key=lambda index: columns[index].keep):
        if _width_of([columns[one] for one in (*kept, index)]) <= width:
            kept.append(index)
    return sorted(kept)


def _width_of(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + len(_GAP) * (len(columns) - 1)
