"""The state of a queue: how many jobs are due, waiting, deferred and running, and which workers are alive."""

from __future__ import annotations

import msgspec
from redis.asyncio import Redis

from fetchq.store.errors import translated
from fetchq.store.keys import Keys
from fetchq.store.scores import PARKED

from .workers import WorkerRecord, live_workers


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one queue at one moment."""

    queue: str
    due: int
    """Jobs that start as soon as a worker has a free slot."""
    waiting: int
    """Jobs in the queue of their limit key, and deferred jobs of the high and low lane."""
    deferred: int
    """Jobs that are not due yet."""
    running: int
    """Jobs with a lease. Stock arq workers have no leases, so their running jobs count as due."""
    dead_letters: int
    paused: bool
    """Whether the whole queue is paused."""
    now_ms: int
    """The time, by the clock of Redis."""
    workers: tuple[WorkerRecord, ...]
    """The live workers, those with the oldest heartbeat first."""


async def read_queue_state(redis: Redis, keys: Keys) -> QueueState:
    """Raises `RedisUnavailable` or `RedisRefused`."""
    with translated(redis):
        seconds, micros = await redis.time()
        now_ms = seconds * 1000 + micros // 1000
        async with redis.pipeline(transaction=True) as pipe:
            pipe.zcount(keys.pending, "-inf", now_ms)
            pipe.zcount(keys.pending, f"({now_ms}", f"({PARKED}")
            pipe.zcount(keys.pending, PARKED, "+inf")
            pipe.hlen(keys.leases)
            pipe.zcard(keys.dead)
            pipe.exists(keys.paused)
            due, later, waiting, running, dead_letters, paused = await pipe.execute()
        workers = await live_workers(redis, keys)
    return QueueState(
        queue=keys.queue,
        due=due,
        waiting=waiting,
        deferred=max(0, later - running),  # the score of a running job is the end of its lease
        running=running,
        dead_letters=dead_letters,
        paused=paused == 1,
        now_ms=now_ms,
        workers=tuple(workers),
    )
