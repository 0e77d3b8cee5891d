"""Bars by minute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from .view import MinuteCounts
from .words import FAULT, GOOD, LABEL, Glyphs, number

_LABEL_WIDTH: Final = 10
_WIDE: Final = 140
"""From this width on a minute has two columns."""


def bar_rows(values: Sequence[int], rows: int, glyphs: Glyphs, top: int) -> list[str]:
    """A column for each value, `rows` lines high; a value above 0 is always to be seen.

    `top` is the value of the highest bar.
    """
    steps = len(glyphs.bars) - 1
    heights = [min(rows * steps, -(-value * rows * steps // top)) if value > 0 and top > 0 else 0 for value in values]
    return [
        "".join(glyphs.bars[min(steps, max(0, height - row * steps))] for height in heights)
        for row in reversed(range(rows))
    ]


def throughput(minutes: Sequence[MinuteCounts], width: int, rows: int, glyphs: Glyphs) -> list[Text]:
    """The finished and, if there are any, the failed jobs of as many minutes as have room, the current one last."""
    columns = 2 if width >= _WIDE else 1
    shown = minutes[-max(1, (width - 2 * _LABEL_WIDTH - 2) // columns) :]
    finished, failed = [one.finished for one in shown], [one.failed for one in shown]
    top = max(finished, default=0)
    lines = [Text(f"jobs that ended, by minute: the last {len(shown)} min, the newest at the right", LABEL)]
    for index, bars in enumerate(bar_rows(finished, rows, glyphs, top)):
        label, most = ("finished", top) if index == rows - 1 else ("", 0)
        lines.append(_line(label, bars, most, columns, GOOD))
    if any(failed):
        [bars] = bar_rows(failed, 1, glyphs, max(failed))
        lines.append(_line("failed", bars, max(failed), columns, FAULT))
    return lines


def throughput_in_numbers(minutes: Sequence[MinuteCounts], width: int) -> list[Text]:
    """The same as numbers, for a reader without pictures: of the minutes that have room, ten at most."""
    lines = []
    for label, values in (
        ("finished", [one.finished for one in minutes[-10:]]),
        ("failed", [one.failed for one in minutes[-10:]]),
    ):
        words = [number(value) for value in values]
        while words and _LABEL_WIDTH + sum(len(word) + 1 for word in words) > width:
            del words[0]
        lines.append(Text.assemble((f"{label:<{_LABEL_WIDTH}}", LABEL), " ".join(words)))
    return lines


def _line(label: str, bars: str, most: int, columns: int, style: str) -> Text:
    wide = "".join(bar * columns for bar in bars)
    note = f" max {number(most)}" if most else ""
    return Text.assemble((f"{label:<{_LABEL_WIDTH}}", LABEL), (wide, style), (note, LABEL))
