"""Numbers, times and lines as text of a frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from fetchq import HostState
from fetchq.command.streams import printable
from fetchq_worker.cli.terminal.text import span_text

FAULT: Final = "bold red"
CAUTION: Final = "magenta"
GOOD: Final = "green"
TITLE: Final = "bold"
LABEL: Final = "dim"
MARKED: Final = "reverse"
"""Of the sixteen colours of a terminal those that can be read on a dark and on a light background. Every colour repeats
what the words say."""

_GAP: Final = "   "


class Glyphs(msgspec.Struct, frozen=True):
    """The characters that a terminal can show."""

    bars: str
    """From nothing to a full bar."""
    more: str
    """At the end of what was cut."""
    ascii_only: bool

    def clean(self, text: str) -> str:
        """`text` from outside, without control characters and without what the terminal cannot show."""
        text = printable(text)
        return (
            text.replace("\N{REPLACEMENT CHARACTER}", "?").encode("ascii", "replace").decode()
            if self.ascii_only
            else text
        )

    def fit(self, text: str, width: int) -> str:
        """`text` in exactly `width` cells."""
        if cell_len(text) > width > 0:
            return set_cell_size(text, width - 1) + self.more
        return set_cell_size(text, width)

    def cut(self, line: Text, width: int) -> Text:
        """A line of at most `width` cells."""
        if line.cell_len > width:
            line = line.copy()
            line.truncate(max(0, width - 1), overflow="crop")
            line.append(self.more)
        return line


UNICODE: Final = Glyphs(" ▁▂▃▄▅▆▇█", "…", ascii_only=False)
ASCII: Final = Glyphs(" .:-=+*%#", "~", ascii_only=True)


def glyphs_for(environ: Mapping[str, str]) -> Glyphs:
    """By the locale (POSIX.1-2017, 8.2). The console of Linux has a font without the bars.

    Python sets LC_CTYPE to C.UTF-8 where the locale is C (PEP 538), so that value alone shows nothing.
    """
    coerced = not environ.get("LC_ALL") and environ.get("LC_CTYPE") == "C.UTF-8"
    names = ("LANG",) if coerced else ("LC_ALL", "LC_CTYPE", "LANG")
    name = next((value for one in names if (value := environ.get(one))), "")
    is_utf8 = "utf-8" in name.lower() or "utf8" in name.lower()
    return UNICODE if is_utf8 and environ.get("TERM") != "linux" else ASCII


def number(value: float) -> str:
    """`12,345`; from a million on `1.23M`."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= limit:
            return f"{value / limit:.2f}{unit}"
    return f"{value:,.0f}"


def size(octets: float) -> str:
    """`812 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if octets < 1024:
            return f"{octets:.0f} {unit}" if octets >= 10 or unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1024
    return f"{octets:,.1f} TiB"


def rate(per_second: float) -> str:
    """`812/s`, `0.3/s`, `5/min`; a rate below one a minute is not zero."""
    if per_second >= 10 or per_second == 0:
        return f"{number(per_second)}/s"
    if per_second >= 0.1:
        return f"{per_second:.1f}/s"
    return f"{max(1, round(per_second * 60))}/min"


def duration(seconds: float) -> str:
    """`3.2 s`, `2 min 5 s`, `3 h 20 min`, `4 d 2 h`."""
    if seconds < 59.95:
        return f"{max(0.0, seconds):.1f} s"
    days, rest = divmod(round(seconds), 86_400)
    return f"{days:,} d {rest // 3600} h" if days else span_text(seconds)


def clock(now_ms: int) -> str:
    """The time of day where this runs."""
    return f"{datetime.fromtimestamp(now_ms / 1000).astimezone():%H:%M:%S}"


def jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{number(count)} jobs"


def waiting(count: int) -> str:
    """`1 job waits`, `5 jobs wait`."""
    return f"{jobs(count)} wait{'s' if count == 1 else ''}"


def next_start(host: HostState, *, queue_is_paused: bool = False) -> str:
    """When the next job of a host starts, and why not sooner."""
    if queue_is_paused and (host.due or host.waiting):
        return "the queue is paused"
    if host.paused:
        return "paused"
    if host.cooldown_s is not None:
        why = cooldown_cause(host)
        return f"cooldown {duration(host.cooldown_s)}{f', {why}' if why else ''}"
    if host.due:
        return "when a slot is free"
    if host.next_start_s is not None:
        return f"in {duration(host.next_start_s)}"
    return "when one ends" if host.waiting else ""


def cooldown_cause(host: HostState) -> str:
    """What led to the cooldown of a host."""
    if host.failed_connections:
        return f"{host.failed_connections} failed in a row"
    return f"throttled {host.consecutive_throttles}x" if host.consecutive_throttles else ""


def flow(items: Iterable[Text], width: int) -> list[Text]:
    """Items beside each other, in as many lines as they need; no item is split."""
    lines: list[Text] = []
    for item in items:
        if lines and lines[-1].cell_len + len(_GAP) + item.cell_len <= width:
            lines[-1].append(_GAP).append_text(item)
        else:
            lines.append(item.copy())
    return lines


def figure(label: str, value: str, style: str = TITLE) -> Text:
    """A number and what it is."""
    return Text.assemble((f"{label} ", LABEL), (value, style))


def between(left: Text, right: Text, width: int, glyphs: Glyphs) -> Text:
    """One text at the left and one at the right end of a line; the right one is left out where there is no room."""
    gap = width - left.cell_len - right.cell_len
    return glyphs.cut(left, width) if gap < 2 else Text.assemble(left, " " * gap, right)
