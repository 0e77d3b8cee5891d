"""How hosts stand: which have most to do, which cool off, and when their next turn comes."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from fetchq.store.keys import Keys

from .limits import Limits

_RUNNING_LOOKED_AT: Final = 1000
"""Of the running jobs, so many at most: hosts without a waiting job are found by these."""

_RECORD: Final = re.compile(rb"(\d+) (\d+) (\d+) \d+ (\d+) (\d+) (\d+) (\d+) (\d+) (.*)", re.DOTALL)
"""As `lua/frontier.lua` writes it: running standing waiting tat cools_until strikes fails delay_ms turn last."""


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """One host, or whatever else the limits of some jobs belong to, at one moment."""

    host: str
    waiting: int = 0
    """Jobs in its own queue: they take no slot, and no worker looks at them before their turn."""
    due: int = 0
    """Jobs whose turn has come: the next free slot of a worker takes them. What stock workers took is among them."""
    running: int = 0
    next_turn_s: float | None = None
    """Seconds until the next of the waiting is let go. None: when a running one ends, or nothing waits."""
    cooling_s: float | None = None
    """Seconds that it is still left in peace, by its own wish or since connections to it failed."""
    paused: bool = False
    strikes: int = 0
    """How many times it had to cool off without a success since. Above 0, one job at a time tries it."""
    failed_connections: int = 0
    """In a row."""
    crawl_delay_s: float | None = None
    """What its robots.txt asks for."""
    last_outcome: str | None = None


async def read_hosts(redis: Redis, keys: Keys, limits: Limits, top: int) -> list[HostState]:
    """The `top` hosts with most waiting jobs and the `top` that cool off longest, and some that only run.

    Takes O(log n + top) of n hosts; nothing is read of the others.
    """
    client: Any = redis
    async with client.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.zrevrange(keys.backlog, 0, top - 1)
        pipe.zrevrange(keys.cooldowns, 0, top - 1)
        pipe.hscan(keys.running, 0, count=_RUNNING_LOOKED_AT)
        (seconds, micros), deepest, cooling, (_, held) = await pipe.execute()
    now_ms = seconds * 1000 + micros / 1000
    # With a mark in front, the lease has ended and the run is not counted.
    running = Counter(key for key in held.values() if not key.startswith(b"#"))
    names = list(dict.fromkeys([*deepest, *cooling, *(key for key, _ in running.most_common(top))]))
    if not names:
        return []
    records = await client.hmget(keys.hosts, names)
    states = []
    for name, record, paused in zip(names, records, await limits.paused_of(names), strict=True):
        state = _state_of(name.decode("utf-8", "replace"), record, paused, now_ms)
        if state.waiting or state.running or state.cooling_s is not None:  # else it has ended meanwhile
            states.append(state)
    return sorted(states, key=lambda state: (-state.waiting, -state.running, state.host))


def _state_of(host: str, record: bytes | None, paused: bool, now_ms: float) -> HostState:
    match = _RECORD.fullmatch(record or b"")
    if match is None:
        return HostState(host=host, paused=paused)
    running, standing, waiting, cools_until, strikes, fails, delay_ms, turn = map(int, match.groups()[:8])
    return HostState(
        host=host,
        waiting=waiting,
        due=standing,
        running=running,
        next_turn_s=max(0.0, turn - now_ms) / 1000 if turn and waiting else None,
        cooling_s=(cools_until - now_ms) / 1000 if cools_until > now_ms else None,
        paused=paused,
        strikes=strikes,
        failed_connections=fails,
        crawl_delay_s=delay_ms / 1000 if delay_ms else None,
        last_outcome=match[9].decode("utf-8", "replace") or None,
    )
