"""Lays out a frame: a pure function of what it shows and of the size of the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Group
from rich.text import Text

from .chart import throughput, throughput_in_numbers
from .findings import Severity, failures, findings
from .host_page import host_lines
from .tables import HOST_COLUMNS, WORKER_COLUMNS, host_row, table, worker_row
from .view import RECENT_MINUTES, Action, Change, Page, View, selected_host, sorted_hosts
from .words import (
    CAUTION,
    FAULT,
    LABEL,
    MARKED,
    TITLE,
    Glyphs,
    between,
    clock,
    duration,
    figure,
    flow,
    jobs,
    number,
    rate,
)

MIN_WIDTH: Final = 30
MIN_HEIGHT: Final = 6
_CHART_ROW_LINES: Final = 20
"""The chart has a row more for each so many lines of the overview."""
_MOST_FINDINGS: Final = 3
"""In a frame that has a height; `fetchq top --once` shows all."""
_ONCE_HOSTS: Final = 10
_ONCE_WORKERS: Final = 20
_STYLE: Final = {Severity.FAULT: FAULT, Severity.CAUTION: CAUTION, Severity.NOTE: ""}

_HELP: Final = (
    ("p", "pause the queue, or resume it; on the page of a host: the host"),
    ("up down j k", "mark another host"),
    ("enter", "look at the marked host: its limits, and why its jobs wait"),
    ("s", "sort the hosts by waiting, running, cooldown or name"),
    ("w", "all workers"),
    ("r", "read the figures now"),
    ("ctrl-l", "draw the screen again"),
    ("esc", "back to the overview"),
    ("q ctrl-c", "quit"),
    ("", ""),
    ("demand", "jobs that could run now if there were slots without end"),
    ("due", "jobs that start as soon as a worker has a free slot"),
    ("waiting", "jobs that wait for their host's limits"),
    ("deferred", "jobs that are to run later"),
    ("oldest due", "for how long the job that is due longest waits"),
    ("cooldown", "the host throttled, or connections to it failed: it is left alone"),
)


def render(view: View, width: int, height: int | None, glyphs: Glyphs) -> Group:
    """The frame as lines, none wider than `width` and at most `height` of them; without it, as many as there are."""
    return Group(*frame_lines(view, width, height, glyphs))


def frame_lines(view: View, width: int, height: int | None, glyphs: Glyphs) -> list[Text]:
    """The lines of `render`."""
    if height is None:
        lines = list(_one_frame(view, width, glyphs))
    elif width < MIN_WIDTH or height < MIN_HEIGHT:
        lines = [Text(f"too small: {MIN_WIDTH}x{MIN_HEIGHT} at least")][:height]
    else:
        foot = _foot(view, width, glyphs)
        body = _page(view, width, height - len(foot), glyphs)[: height - len(foot)]
        lines = [*body, *[Text()] * (height - len(foot) - len(body)), *foot]
    return [glyphs.cut(line, width) for line in lines]


def _page(view: View, width: int, height: int, glyphs: Glyphs) -> list[Text]:
    lines = [_title(view, width, glyphs), *_findings(view, width, glyphs, height)]
    rest = height - len(lines) - 1
    match view.screen.page:
        case Page.HELP:
            return [*lines, Text(), *_help()]
        case Page.HOST:
            return [*lines, Text(), *host_lines(view, glyphs)]
        case Page.WORKERS:
            return [*lines, Text(), *_workers(view, width, rest, glyphs, first=view.screen.first_worker)]
        case Page.OVERVIEW:
            return [*lines, *_overview(view, width, rest, glyphs)]


def _overview(view: View, width: int, height: int, glyphs: Glyphs) -> Iterator[Text]:
    """The figures; then what has room of the chart, the hosts and the workers."""
    figures = _figures(view, width, glyphs)
    rest = height - len(figures)
    yield Text()
    yield from figures[: max(0, height)]
    chart = throughput(view.snapshot.minutes, width, 1 + height // _CHART_ROW_LINES, glyphs)
    if rest >= len(chart) + 10:  # two hosts and two workers
        rest -= len(chart) + 1
        yield Text()
        yield from chart
    workers = min(len(view.snapshot.state.workers), max(2, rest // 3 - 1)) if rest >= 7 else 0
    hosts = rest - 1 - (workers + 2 if workers else 0)
    if hosts >= 3:
        yield Text()
        yield from _hosts(view, width, hosts, glyphs)
    if workers:
        yield Text()
        yield from _workers(view, width, workers + 1, glyphs)


def _one_frame(view: View, width: int, glyphs: Glyphs) -> Iterator[Text]:
    """All of the overview, without pictures."""
    yield _title(view, width, glyphs)
    yield from _findings(view, width, glyphs, None)
    yield Text()
    yield from _figures(view, width, glyphs)
    yield Text()
    yield Text("ended each minute of the last ten, the newest at the right", LABEL)
    yield from throughput_in_numbers(view.snapshot.minutes, width)
    yield Text()
    yield from _hosts(view, width, _ONCE_HOSTS + 2, glyphs)
    if view.snapshot.state.workers:
        yield Text()
        yield from _workers(view, width, _ONCE_WORKERS + 1, glyphs)


def _title(view: View, width: int, glyphs: Glyphs) -> Text:
    left = Text.assemble(
        ("fetchq top", TITLE), "  ", (glyphs.clean(view.queue), TITLE), "  ", (glyphs.clean(view.redis), LABEL)
    )
    every = "" if view.interval_s is None else f"every {view.interval_s:g} s  "
    return between(left, Text(f"{every}{clock(view.snapshot.state.now_ms)}", LABEL), width, glyphs)


def _findings(view: View, width: int, glyphs: Glyphs, height: int | None) -> Iterator[Text]:
    """The sentences that have room; one at least. In a live frame the first has two lines at most, the others one."""
    found = findings(view, glyphs)
    most = len(found) if height is None else min(len(found), _MOST_FINDINGS if height >= 20 else 1)
    for place, finding in enumerate(found[:most]):
        more = len(found) - most if place == most - 1 else 0
        sentence = f"{finding.sentence}{f' (and {more} more)' if more else ''}"
        lines = wrapped(sentence, width)
        if height is not None:
            whole = 0 if place else 1
            lines = [*lines[:whole], " ".join(lines[whole:])] if len(lines) > whole else lines
        yield from (Text(line, _STYLE[finding.severity]) for line in lines)


def _figures(view: View, width: int, glyphs: Glyphs) -> list[Text]:
    """The numbers, each in a place that does not change while the terminal is wide enough."""
    snapshot, state = view.snapshot, view.snapshot.state
    oldest = "none" if state.oldest_due_s is None else duration(state.oldest_due_s)
    in_use = f"{number(sum(one.running for one in state.workers))} of {number(state.slots)} in use"
    attempt = "none"
    if snapshot.p50_s is not None and snapshot.p95_s is not None:
        attempt = f"p50 {_latency(snapshot.p50_s)}, p95 {_latency(snapshot.p95_s)}"
    rates = snapshot.rates
    groups = (
        (
            figure("demand", number(state.demand)),
            figure("due", number(state.due)),
            figure("waiting", number(state.waiting)),
            figure("deferred", number(state.deferred)),
            figure("running", number(state.running)),
        ),
        (
            figure("oldest due", oldest),
            figure("workers", number(len(state.workers))),
            figure("slots", in_use),
            figure("dead letters", number(state.dead_letters)),
        ),
        (
            figure("enqueued", rate(rates.enqueued)),
            figure("finished", rate(rates.finished)),
            figure("failed", rate(rates.failed), FAULT if rates.failed else TITLE),
            figure("attempts", attempt),
        ),
    )
    lines = [line for group in groups for line in flow(group, width)]
    if failed := failures(snapshot.recent):
        text = ", ".join(f"{number(count)} {glyphs.clean(outcome)}" for outcome, count in failed)
        lines.append(Text.assemble((f"failed in {RECENT_MINUTES} min: ", LABEL), (text, FAULT)))
    return lines


def _latency(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else duration(seconds)


def _hosts(view: View, width: int, lines: int, glyphs: Glyphs) -> Iterator[Text]:
    """How many there are in all, the titles, and as many hosts as have room, the marked one among them."""
    state = view.snapshot.state
    yield Text.assemble(
        ("hosts ", LABEL),
        f"{number(state.hosts_waiting)} with waiting jobs, {number(state.hosts_cooling)} in a cooldown,"
        f" {number(state.hosts_paused)} paused",
    )
    hosts = sorted_hosts(view.snapshot.hosts, view.screen.sort)
    if not hosts:
        return
    chosen = selected_host(view)
    marked = hosts.index(chosen) if chosen is not None else 0
    room = lines - 2
    first = max(0, min(marked - room // 2, len(hosts) - room))
    shown = hosts[first : first + room]
    rows = [host_row(host, glyphs, queue_is_paused=state.paused) for host in shown]
    live = view.interval_s is not None
    yield from table(HOST_COLUMNS, rows, width, glyphs, marked=marked - first if live else None)


def _workers(view: View, width: int, lines: int, glyphs: Glyphs, first: int = 0) -> Iterator[Text]:
    """The titles, and as many workers as have room."""
    state = view.snapshot.state
    if not state.workers:
        yield Text("no worker is running", LABEL)
        return
    shown = state.workers[first : first + max(1, lines - 1)]
    place = f"{number(first + 1)}-{number(first + len(shown))}" if first else number(len(shown))
    title = "worker" if len(shown) == len(state.workers) else f"worker ({place} of {number(len(state.workers))})"
    names = WORKER_COLUMNS[0]._replace(title=title, width=max(WORKER_COLUMNS[0].width, len(title)))
    columns = (names, *WORKER_COLUMNS[1:])
    yield from table(columns, [worker_row(one, state.now_ms, glyphs) for one in shown], width, glyphs)


def _help() -> Iterator[Text]:
    for keys, what in _HELP:
        yield Text.assemble((f"{keys:<13}", TITLE), what)


def _foot(view: View, width: int, glyphs: Glyphs) -> list[Text]:
    """The question, the message of the last change, or the keys."""
    screen = view.screen
    if screen.question is not None:
        return [
            Text(line.ljust(width), MARKED)
            for line in wrapped(f"{question(view, screen.question, glyphs)} (y/n)", width)
        ]
    if screen.message:
        return [Text(line, TITLE) for line in wrapped(glyphs.clean(screen.message), width)]
    pause = "resume" if view.snapshot.state.paused else "pause"
    keys = {
        Page.OVERVIEW: ("q quit", "? help", f"p {pause}", "enter host", "s sort", "w workers", "r refresh"),
        Page.HOST: ("q quit", "? help", "p pause or resume this host", "esc back"),
        Page.WORKERS: ("q quit", "? help", "up, down", "esc back"),
        Page.HELP: ("q quit", "esc back"),
    }[screen.page]
    return flow([Text(one, LABEL) for one in keys], width)[:1]


def question(view: View, change: Change, glyphs: Glyphs) -> str:
    """What a change does, and to what."""
    state = view.snapshot.state
    queue = glyphs.clean(view.queue)
    host = next((one for one in view.snapshot.hosts if one.host == change.host), None)
    name = glyphs.clean(change.host)
    waiting = 0 if host is None else host.waiting
    running = 0 if host is None else host.running
    match change.action:
        case Action.PAUSE_QUEUE:
            return (
                f"Pause {queue}? No worker starts a job of it:"
                f" {jobs(state.due + state.waiting + state.deferred)} will wait.{_what_continues(state.running)}"
                " Producers can enqueue."
            )
        case Action.RESUME_QUEUE:
            return f"Resume {queue}? {jobs(state.due)} may start at once, and {number(state.waiting)} in turn."
        case Action.PAUSE_HOST:
            return f"Pause {name} for all workers of {queue}? {jobs(waiting)} will wait.{_what_continues(running)}"
        case Action.RESUME_HOST:
            return f"Resume {name}? {jobs(waiting)} may start within its limits."


def _what_continues(running: int) -> str:
    return f" {number(running)} that run go on." if running > 1 else " The one that runs goes on." if running else ""


def wrapped(sentence: str, width: int) -> list[str]:
    """A sentence in lines of whole words; a longer word is cut into pieces."""
    lines: list[str] = [""]
    for word in sentence.split():
        pieces: Sequence[str] = [word[start : start + width] for start in range(0, len(word), width)]
        for piece in pieces:
            if lines[-1] and len(lines[-1]) + 1 + len(piece) <= width:
                lines[-1] += f" {piece}"
            elif lines[-1]:
                lines.append(piece)
            else:
                lines[-1] = piece
    return lines
