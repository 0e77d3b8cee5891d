"""Lays out a frame: a pure function of what it shows and of the size of the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Group
from rich.text import Text

from .chart import throughput, throughput_in_numbers
from .findings import Weight, failed_outcomes, findings
from .host_page import host_lines
from .tables import HOST_COLUMNS, WORKER_COLUMNS, host_row, table, worker_row
from .view import RECENT_MINUTES, Change, Deed, Page, View, selected_host, sorted_hosts
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
_CHART_ROWS: Final = 2
_TALL: Final = 40
"""From this height on the chart has twice the rows."""
_MOST_FINDINGS: Final = 3
"""In a frame that has a height; `fetchq top --once` shows all."""
_ONCE_HOSTS: Final = 10
_ONCE_WORKERS: Final = 20
_STYLE: Final = {Weight.FAULT: FAULT, Weight.CAUTION: CAUTION, Weight.NOTE: ""}

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
        lines = [Text("this terminal is too small")][:height]
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
    figures = _figures(view, width)
    rest = height - len(figures)
    yield Text()
    yield from figures[: max(0, height)]
    rows = _CHART_ROWS * 2 if height >= _TALL else _CHART_ROWS
    chart = throughput(view.snapshot.minutes, width, rows, glyphs)
    if rest >= len(chart) + 9:  # a table of hosts and one of workers, of a line each
        rest -= len(chart) + 2
        yield Text()
        yield Text(f"ended each minute of the last {len(view.snapshot.minutes)}, the newest at the right", LABEL)
        yield from chart
    workers = min(len(view.snapshot.state.workers) + 1, max(3, rest // 3)) if rest >= 7 else 0
    hosts = rest - workers - (1 if workers else 0) - 1
    if hosts >= 2:
        yield Text()
        yield from _hosts(view, width, hosts, glyphs)
    if workers and view.snapshot.state.workers:
        yield Text()
        yield from _workers(view, width, workers, glyphs)


def _one_frame(view: View, width: int, glyphs: Glyphs) -> Iterator[Text]:
    """All of the overview, without pictures."""
    yield _title(view, width, glyphs)
    yield from _findings(view, width, glyphs, None)
    yield Text()
    yield from _figures(view, width)
    yield Text()
    yield Text("ended each minute of the last ten, the newest at the right", LABEL)
    yield from throughput_in_numbers(view.snapshot.minutes, width)
    yield Text()
    yield from _hosts(view, width, _ONCE_HOSTS + 1, glyphs)
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
    """The sentences that have room; one at least. In a live frame each has one or two lines."""
    found = findings(view, glyphs)
    most = len(found) if height is None else min(len(found), _MOST_FINDINGS if height >= 20 else 1)
    for place, finding in enumerate(found[:most]):
        more = len(found) - most if place == most - 1 else 0
        sentence = f"{finding.sentence}{f' (and {more} more)' if more else ''}"
        lines = wrapped(sentence, width)
        if height is not None and len(lines) > 2:
            lines = [lines[0], " ".join(lines[1:])]
        yield from (Text(line, _STYLE[finding.weight]) for line in lines)


def _figures(view: View, width: int) -> list[Text]:
    snapshot, state = view.snapshot, view.snapshot.state
    rates = snapshot.rates
    oldest = "none" if state.oldest_due_s is None else duration(state.oldest_due_s)
    lines = flow(
        [
            figure("demand", number(state.demand)),
            figure("due", number(state.due)),
            figure("waiting", number(state.waiting)),
            figure("deferred", number(state.deferred)),
            figure("running", number(state.running)),
            figure("oldest due", oldest),
        ],
        width,
    )
    lines += flow(
        [
            figure("workers", number(len(state.workers))),
            figure("slots", f"{number(sum(one.running for one in state.workers))} of {number(state.slots)} in use"),
            figure(
                "hosts",
                f"{number(state.hosts_waiting)} waiting, {number(state.hosts_cooling)} cooling,"
                f" {number(state.hosts_paused)} paused",
            ),
            figure("dead letters", number(state.dead_letters)),
        ],
        width,
    )
    per_s = [
        figure("enqueued", rate(rates.enqueued)),
        figure("finished", rate(rates.finished)),
        figure("failed", rate(rates.failed), FAULT if rates.failed else TITLE),
    ]
    attempt = (
        "none"
        if snapshot.p50_s is None or snapshot.p95_s is None
        else f"p50 {_latency(snapshot.p50_s)}, p95 {_latency(snapshot.p95_s)}"
    )
    lines += flow(
        [*(per_s if rates.span_s else [figure("rates", "not known yet")]), figure("attempts", attempt)], width
    )
    if failed := failed_outcomes(snapshot):
        text = ", ".join(f"{number(count)} {status}" for status, count in failed)
        lines.append(Text.assemble((f"failed in {RECENT_MINUTES} min ", LABEL), (text, FAULT)))
    return lines


def _latency(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else duration(seconds)


def _hosts(view: View, width: int, lines: int, glyphs: Glyphs) -> Iterator[Text]:
    """The titles and as many hosts as have room, the marked one among them."""
    hosts = sorted_hosts(view.snapshot.hosts, view.screen.sort)
    if not hosts:
        yield Text("no host has jobs that wait or run, or is in a cooldown", LABEL)
        return
    chosen = selected_host(view)
    marked = hosts.index(chosen) if chosen is not None else 0
    room = lines - 1
    first = max(0, min(marked - room // 2, len(hosts) - room))
    shown = hosts[first : first + room]
    rows = [host_row(host, glyphs) for host in shown]
    live = view.interval_s is not None
    yield from table(HOST_COLUMNS, rows, width, glyphs, marked=marked - first if live else None)


def _workers(view: View, width: int, lines: int, glyphs: Glyphs, first: int = 0) -> Iterator[Text]:
    """The titles, as many workers as have room, and how many more there are."""
    state = view.snapshot.state
    if not state.workers:
        yield Text("no worker is running", LABEL)
        return
    room = lines - 1
    cut = first > 0 or len(state.workers) > room
    shown = state.workers[first : first + max(1, room - (1 if cut else 0))]
    yield from table(WORKER_COLUMNS, [worker_row(one, state.now_ms, glyphs) for one in shown], width, glyphs)
    if cut and room > 1:
        others = len(state.workers) - len(shown)
        how = "" if view.interval_s is None or view.screen.page is Page.WORKERS else "; w shows all"
        yield Text(
            f"and {number(others)} more, with newer heartbeats{how}" if not first else f"{number(others)} more", LABEL
        )


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
    match change.deed:
        case Deed.PAUSE_QUEUE:
            held = state.due + state.waiting + state.deferred
            return (
                f"Pause {queue}? No worker starts a job of it: {jobs(held)} will wait."
                f" {number(state.running)} that run go on, and producers can enqueue."
            )
        case Deed.RESUME_QUEUE:
            return f"Resume {queue}? {jobs(state.due)} may start at once, and {number(state.waiting)} in turn."
        case Deed.PAUSE_HOST:
            return (
                f"Pause {name} for all workers of {queue}? {jobs(waiting)} will wait, {number(running)} that run go on."
            )
        case Deed.RESUME_HOST:
            return f"Resume {name}? {jobs(waiting)} may start within its limits."


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
