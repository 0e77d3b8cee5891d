"""One host: its limits, its jobs, and why the next one does not start yet."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from fetchq import HostLimits, HostState

from .view import View, selected_host
from .words import CAUTION, LABEL, TITLE, Glyphs, cooldown_cause, duration, jobs, number


def host_lines(view: View, glyphs: Glyphs) -> list[Text]:
    """The page of the selected host."""
    host = selected_host(view)
    if host is None or (view.screen.selected and host.host != view.screen.selected):
        name = glyphs.clean(view.screen.selected)
        return [Text(name, TITLE), Text("no job of it waits or runs, and it is in no cooldown")]
    return [
        Text(glyphs.clean(host.host), TITLE),
        Text(why_not_sooner(host, view.host_limits, queue_is_paused=view.snapshot.state.paused), CAUTION),
        Text(),
        *(Text.assemble((f"{label:<14}", LABEL), value) for label, value in _facts(host, view.host_limits, glyphs)),
    ]


def _facts(host: HostState, limits: HostLimits | None, glyphs: Glyphs) -> Iterator[tuple[str, str]]:
    most = "" if limits is None else f" of {number(limits.concurrency or 0)} at a time"
    yield "running", f"{number(host.running)}{most}"
    yield "waiting", number(host.waiting)
    yield "due", number(host.due)
    if limits is not None:
        yield "rate", "no limit" if limits.rate is None else f"{limits.rate}, burst {limits.burst or 1}"
        yield "min delay", duration(limits.min_delay_s) if limits.min_delay_s else "none"
    if host.crawl_delay_s is not None:
        yield "crawl delay", f"{duration(host.crawl_delay_s)}, from its robots.txt"
    if host.cooldown_s is not None:
        cause = cooldown_cause(host)
        yield "cooldown", f"{duration(host.cooldown_s)}{f' ({cause})' if cause else ''}"
    yield "last outcome", glyphs.clean(host.last_outcome or "none")


def why_not_sooner(host: HostState, limits: HostLimits | None, *, queue_is_paused: bool) -> str:
    """When the next job of the host starts, and what it waits for."""
    if queue_is_paused:
        return "the queue is paused: no job starts"
    if host.paused:
        return f"paused: no job of it starts; {jobs(host.waiting)} wait"
    if host.cooldown_s is not None:
        return f"in a cooldown: no job of it starts for {duration(host.cooldown_s)}"
    if host.due:
        return f"{jobs(host.due)} may start as soon as a worker has a free slot"
    if not host.waiting:
        return "no job of it waits"
    if host.next_start_s is not None:
        return f"the next job starts in {duration(host.next_start_s)}: {_pace(host, limits)}"
    if host.consecutive_throttles:
        return "the next job starts when the running one ends: after a cooldown one runs at a time"
    most = "" if limits is None else f" of {number(limits.concurrency or 0)}"
    return f"{number(host.running)}{most} run: the next job starts when one of them ends"


def _pace(host: HostState, limits: HostLimits | None) -> str:
    if host.crawl_delay_s:
        return f"its robots.txt asks for {duration(host.crawl_delay_s)} between two"
    if limits is not None and limits.min_delay_s:
        return f"at least {duration(limits.min_delay_s)} lie between two"
    return f"its rate is {limits.rate}" if limits is not None and limits.rate else "its turn comes then"
