"""The state of hosts: which have the largest backlog, which are cooling down, and when their next job may start."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

import msgspec

from fetchq.store.session import Session

from .limits import Limits

_RUNNING_READ: Final = 1000
"""Running jobs that are read: hosts without a waiting job are found by these."""

_RECORD: Final = re.compile(rb"(\d+) (\d+) (\d+) \d+ (\d+) (\d+) (\d+) (\d+) (\d+) (.*)", re.DOTALL)
"""As `lua/include/frontier.lua` writes it: running ready waiting tat cools_until throttles fails delay_ms next last."""


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """One host, or another limit key, at one moment."""

    host: str
    waiting: int = 0
    """Parked jobs, in its own queue: they take no slot."""
    due: int = 0
    """Jobs that may start: the next free slot of a worker takes them. Jobs taken by stock workers are counted here."""
    running: int = 0
    next_start_s: float | None = None
    """Seconds until the next waiting job may start. None: when a running one ends, or none waits."""
    cooldown_s: float | None = None
    """Remaining seconds of its cooldown, after it throttled us or connections to it failed."""
    paused: bool = False
    consecutive_throttles: int = 0
    """Cooldowns since the last success. Above 0, one job at a time tries it."""
    failed_connections: int = 0
    """In a row."""
    crawl_delay_s: float | None = None
    """The Crawl-delay of its robots.txt."""
    last_outcome: str | None = None


async def read_hosts(session: Session, limits: Limits, top: int) -> list[HostState]:
    """The `top` hosts with most waiting jobs, the `top` with the longest cooldowns, and some that only run.

    Takes O(log n + top) of n hosts.
    """
    redis, keys = session.redis, session.keys
    with session.guarded():
        async with redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrevrange(keys.backlog, 0, top - 1)
            pipe.zrevrange(keys.cooldowns, 0, top - 1)
            pipe.hscan(keys.running, 0, count=_RUNNING_READ)
            (seconds, micros), deepest, cooling, (_, held) = await pipe.execute()
        now_ms = seconds * 1000 + micros / 1000
        # With a `#` in front, the lease has ended and the run is not counted.
        running = Counter(key for key in held.values() if not key.startswith(b"#"))
        names = list(dict.fromkeys([*deepest, *cooling, *(key for key, _ in running.most_common(top))]))
        if not names:
            return []
        records = await redis.hmget(keys.hosts, names)
    states = []
    for name, record, paused in zip(names, records, await limits.paused_of(names), strict=True):
        state = _state_of(name.decode("utf-8", "replace"), record, paused, now_ms)
        if state.waiting or state.running or state.cooldown_s is not None:  # else it has ended meanwhile
            states.append(state)
    return sorted(states, key=lambda state: (-state.waiting, -state.running, state.host))


def _state_of(host: str, record: bytes | None, paused: bool, now_ms: float) -> HostState:
    match = _RECORD.fullmatch(record or b"")
    if match is None:
        return HostState(host=host, paused=paused)
    running, ready, waiting, cools_until, throttles, fails, delay_ms, next_ms = map(int, match.groups()[:8])
    return HostState(
        host=host,
        waiting=waiting,
        due=ready,
        running=running,
        next_start_s=max(0.0, next_ms - now_ms) / 1000 if next_ms and waiting else None,
        cooldown_s=(cools_until - now_ms) / 1000 if cools_until > now_ms else None,
        paused=paused,
        consecutive_throttles=throttles,
        failed_connections=fails,
        crawl_delay_s=delay_ms / 1000 if delay_ms else None,
        last_outcome=match[9].decode("utf-8", "replace") or None,
    )
