"""The state of hosts: largest backlogs, longest cooldowns, and when the next job of each may start."""

from __future__ import annotations

from typing import Final

import msgspec

from fetchq.store.hosts import read_top_hosts
from fetchq.store.records import HostRecord
from fetchq.store.session import Session

from .limits import is_paused, names_of_key

_NO_RECORD: Final = HostRecord()


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """One host, or another limit key, at one moment."""

    host: str
    waiting: int = 0
    """Jobs parked in the host's own queue."""
    due: int = 0
    """Jobs that may start when a worker has a free slot. Jobs that stock workers run are counted here too."""
    running: int = 0
    next_start_s: float | None = None
    """Seconds until the next waiting job may start. None: as soon as a running one ends, or none waits."""
    cooldown_s: float | None = None
    """Remaining seconds of its cooldown, which began when it throttled requests or connections to it failed."""
    paused: bool = False
    consecutive_throttles: int = 0
    """Cooldowns since the last success. Above 0, one job runs at a time."""
    failed_connections: int = 0
    """In a row."""
    crawl_delay_s: float | None = None
    """The Crawl-delay of its robots.txt."""
    last_outcome: str | None = None


async def read_hosts(session: Session, top: int) -> list[HostState]:
    """The `top` hosts with most waiting jobs, the `top` with the longest cooldowns, and some with running jobs.

    Takes O(log n + top) of n hosts, in two round trips.
    """
    now_ms, records, limits = await read_top_hosts(session, top, names_of_key)
    states = []
    for name, record in records.items():
        state = _state_of(name.decode("utf-8", "replace"), record or _NO_RECORD, is_paused(limits[name]), now_ms)
        if state.waiting or state.running or state.cooldown_s is not None:  # else its jobs ended between the two reads
            states.append(state)
    return sorted(states, key=lambda state: (-state.waiting, -state.running, state.host))


def _state_of(host: str, record: HostRecord, paused: bool, now_ms: float) -> HostState:
    start_ms = record.due_at_ms if record.waiting else 0
    return HostState(
        host=host,
        waiting=record.waiting,
        due=record.ready,
        running=record.running,
        next_start_s=max(0.0, start_ms - now_ms) / 1000 if start_ms else None,
        cooldown_s=(record.cooldown_until_ms - now_ms) / 1000 if record.cooldown_until_ms > now_ms else None,
        paused=paused,
        consecutive_throttles=record.consecutive_throttles,
        failed_connections=record.consecutive_failures,
        crawl_delay_s=record.crawl_delay_ms / 1000 if record.crawl_delay_ms else None,
        last_outcome=record.last or None,
    )
