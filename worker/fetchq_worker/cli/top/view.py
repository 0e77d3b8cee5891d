"""What a frame shows: one reading of the queue, and what the person at the terminal has chosen."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from fetchq import HostLimits, HostState
from fetchq.inspect.queue import QueueState
from fetchq.inspect.workers import WorkerRecord


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs a second."""

    enqueued: float = 0.0
    finished: float = 0.0
    """With those that failed."""
    failed: float = 0.0
    span_s: float = 0.0
    """The time over which they are taken; 0: nothing is known yet."""


class MinuteCounts(msgspec.Struct, frozen=True):
    """The jobs that ended in one minute."""

    minute: int
    """Minutes since the epoch, by the clock of Redis."""
    finished: int = 0
    """With those that failed."""
    failed: int = 0


class ServerState(msgspec.Struct, frozen=True, kw_only=True):
    """What INFO says about the server, beside its memory."""

    is_replica: bool = False
    cannot_save: bool = False
    """The last save, or write to the append-only file, failed: by default Redis then refuses writes."""


class LostWorker(msgspec.Struct, frozen=True):
    """A worker whose record expired while its last heartbeat did not say that it stops."""

    record: WorkerRecord
    seen_ms: int
    """Its last heartbeat, by the clock of Redis."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of the queue."""

    state: QueueState
    hosts: tuple[HostState, ...] = ()
    minutes: tuple[MinuteCounts, ...] = ()
    """Without gaps, the oldest first; the last one is the current minute, which is not over."""
    rates: Rates = Rates()
    p50_s: float | None = None
    p95_s: float | None = None
    """Of the attempts of the last `RECENT_MINUTES`; None: there were none."""
    recent: dict[str, int] = {}
    """Jobs that ended in the last `RECENT_MINUTES`, by outcome; those of own functions as `ok` and `cancelled`, and the
    failed ones as `name()`."""
    attempts: dict[str, int] = {}
    """Attempts of fetches in the last `RECENT_MINUTES`, by outcome."""
    server: ServerState | None = None
    """None: the server has no INFO, or the user may not run it."""
    lost: tuple[LostWorker, ...] = ()
    clock_ahead_s: float = 0.0
    """How much the clock of this machine is ahead of Redis's."""


RECENT_MINUTES = 5
"""The whole minutes, beside the current one, that percentiles and outcomes are taken from."""


class Page(StrEnum):
    """What fills the frame."""

    OVERVIEW = "overview"
    HOST = "host"
    WORKERS = "workers"
    HELP = "help"


class Sort(StrEnum):
    """The order of the hosts."""

    WAITING = "waiting"
    RUNNING = "running"
    COOLDOWN = "cooldown"
    NAME = "name"


class Action(StrEnum):
    """A change that a key asks for."""

    PAUSE_QUEUE = "pause the queue"
    RESUME_QUEUE = "resume the queue"
    PAUSE_HOST = "pause the host"
    RESUME_HOST = "resume the host"


class Change(msgspec.Struct, frozen=True):
    """A change and the host that it is about; empty for one of the queue."""

    action: Action
    host: str = ""


class Screen(msgspec.Struct, frozen=True, kw_only=True):
    """What the person at the terminal has chosen."""

    page: Page = Page.OVERVIEW
    selected: str = ""
    """The host that is marked; empty: the first."""
    sort: Sort = Sort.WAITING
    first_worker: int = 0
    """The first line of the workers' page."""
    question: Change | None = None
    """Waits for y or n."""
    message: str = ""
    """What became of the last change, until the next key."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """All that a frame shows."""

    queue: str
    redis: str
    """The address, without the password."""
    snapshot: Snapshot
    screen: Screen = Screen()
    host_limits: HostLimits | None = None
    """The effective limits of the host on the host's page, once they were read."""
    interval_s: float | None = None
    """None: one frame, without keys."""
    problem: str = ""
    """Why the last reading failed."""
    problem_s: float = 0.0
    """Seconds for which readings have failed."""


def sorted_hosts(hosts: tuple[HostState, ...], sort: Sort) -> list[HostState]:
    """In the chosen order; those that are equal by it by their backlog, then by name."""

    def key(host: HostState) -> tuple[float, int, str]:
        first = {
            Sort.WAITING: -host.waiting,
            Sort.RUNNING: -host.running,
            Sort.COOLDOWN: -(host.cooldown_s or 0.0),
            Sort.NAME: 0,
        }[sort]
        return first, 0 if sort is Sort.NAME else -host.waiting, host.host

    return sorted(hosts, key=key)


def selected_host(view: View) -> HostState | None:
    """The marked host: the chosen one if it is still read, else the first."""
    hosts = sorted_hosts(view.snapshot.hosts, view.screen.sort)
    return next((one for one in hosts if one.host == view.screen.selected), hosts[0] if hosts else None)
