"""Reads the state of limit keys: their queues, their records, and the limits set for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from .keys import Keys
from .records import HostRecord, LimitsEntry
from .runner import MAX_JOBS_A_CALL
from .session import Session

_BY_FIELD: Final = "@by"
"""The field of the limits hash that says what a limit key is, if not a host. No host contains an @."""
_CHUNKS_A_CALL: Final = 6
"""With the first one, of up to 128 jobs each, these chunks hold less than `MAX_JOBS_A_CALL`."""
_KEYS_A_CALL: Final = 100
_RUNNING_READ: Final = 1000


class HostsReply(NamedTuple):
    """Some limit keys at one moment."""

    now_ms: float
    """The time by Redis's clock."""
    records: dict[bytes, HostRecord | None]
    limits: dict[bytes, list[LimitsEntry | None]]
    """For each key the limits that are set under its names, in their order."""


async def read_top_hosts(session: Session, top: int, names_of: Callable[[bytes], Sequence[bytes]]) -> HostsReply:
    """Reads the `top` limit keys with most waiting jobs, the `top` with the longest cooldowns, and some running ones.

    `names_of` gives the names under which limits of a key may be set. Takes O(log n + top) of n keys, and two round
    trips.
    """
    redis, keys = session.redis, session.keys
    with session.guarded():
        async with redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrevrange(keys.backlog, 0, top - 1)
            pipe.zrevrange(keys.cooldowns, 0, top - 1)
            pipe.hscan(keys.running, 0, count=_RUNNING_READ)
            (seconds, micros), deepest, in_cooldown, (_, held) = await pipe.execute()
        # With a `#` in front, the lease has ended and the run is not counted.
        running = Counter(key for key in held.values() if not key.startswith(b"#"))
        names = list(dict.fromkeys([*deepest, *in_cooldown, *(key for key, _ in running.most_common(top))]))
        now_ms = seconds * 1000 + micros / 1000
        if not names:
            return HostsReply(now_ms, {}, {})
        limit_names = {name: names_of(name) for name in names}
        async with redis.pipeline(transaction=False) as pipe:
            pipe.hmget(keys.hosts, names)
            pipe.hmget(keys.limits, [one for each in limit_names.values() for one in each])
            found, entries = await pipe.execute()
    records = {name: record and HostRecord.parse(record) for name, record in zip(names, found, strict=True)}
    parsed = iter([None if entry is None else LimitsEntry.parse(entry) for entry in entries])
    return HostsReply(now_ms, records, {name: [next(parsed) for _ in each] for name, each in limit_names.items()})


async def waiting_ids(session: Session, limit_key: str) -> AsyncGenerator[list[bytes], None]:
    """The ids of the jobs that wait for a limit key, some chunks at a time (`lua/include/host_queues/host_queue.lua`).

    When the first chunk becomes empty the next one replaces it, so it is read each time. Some ids may be repeated.
    """
    redis, prefix = session.redis, session.keys.waiting
    start, more = "-inf", True
    while more:
        with session.guarded():
            starts = [
                place.decode()
                for place in await redis.zrangebyscore(
                    f"{prefix}#{limit_key}", start, "+inf", start=0, num=_CHUNKS_A_CALL
                )
            ]
            async with redis.pipeline(transaction=False) as pipe:
                for name in (limit_key, *(f"#{place} {limit_key}" for place in starts)):
                    pipe.zrange(f"{prefix}{name}", 0, MAX_JOBS_A_CALL - 1)
                ids = [job_id for chunk in await pipe.execute() for job_id in chunk]
        for first in range(0, len(ids), MAX_JOBS_A_CALL):
            yield ids[first : first + MAX_JOBS_A_CALL]
        more = bool(starts)
        start = f"({starts[-1]}" if starts else start


async def keys_with_backlog(session: Session) -> AsyncGenerator[list[bytes], None]:
    """The limit keys with waiting jobs, at most a hundred at a time. Some may be repeated."""
    cursor, more = 0, True
    while more:
        with session.guarded():
            cursor, scored = await session.redis.zscan(session.keys.backlog, cursor, count=_KEYS_A_CALL)
        more = cursor != 0
        names = [name for name, _ in scored]
        for first in range(0, len(names), _KEYS_A_CALL):
            yield names[first : first + _KEYS_A_CALL]


async def read_limits(session: Session, names: Sequence[str]) -> list[LimitsEntry | None]:
    """The limits that are set under each name; None: no entry."""
    if not names:
        return []
    with session.guarded():
        entries = await session.redis.hmget(session.keys.limits, names)
    return [None if entry is None else LimitsEntry.parse(entry) for entry in entries]


async def read_all_limits(session: Session) -> dict[bytes, LimitsEntry]:
    """All limits that are set, by name."""
    with session.guarded():
        entries = await session.redis.hgetall(session.keys.limits)
    return {name: LimitsEntry.parse(entry) for name, entry in entries.items() if not name.startswith(b"@")}


async def read_limit_by(redis: Redis, keys: Keys) -> str:
    """What a limit key is, such as `domain`; empty for a host. Raises what redis-py raises."""
    client: Any = redis  # redis-py 5 types each reply as `Awaitable | value`
    return ((await client.hget(keys.limits, _BY_FIELD)) or b"").decode("utf-8", "replace")


async def store_limit_by(redis: Redis, keys: Keys, limit_by: str) -> None:
    """Sets what a limit key is, for the whole queue; empty for a host. Raises what redis-py raises."""
    client: Any = redis
    if limit_by:
        await client.hset(keys.limits, _BY_FIELD, limit_by)
    else:
        await client.hdel(keys.limits, _BY_FIELD)
