"""The state of a queue: how many jobs are due, waiting, deferred and running, and which workers are alive."""

from __future__ import annotations

import msgspec
from redis.asyncio import Redis

from fetchq.store.commands import QueueCommands
from fetchq.store.errors import translated
from fetchq.store.keys import Keys
from fetchq.store.runner import ClientRunner, ScriptRunner

from .workers import WorkerRecord, decode_record


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one queue at one moment. Each job is counted in one state."""

    queue: str
    due: int
    """Jobs that start as soon as a worker has a free slot, also those of a lost worker once their leases have ended."""
    waiting: int
    """Jobs in the queue of their limit key."""
    deferred: int
    """Jobs that are not due yet."""
    running: int
    """Jobs with a lease. Stock arq workers have no leases, so their running jobs count as due."""
    demand: int
    """Jobs that could run now with any number of workers: due, running, and the waiting ones that their limit keys
    permit to start. While the queue is paused, only those that run."""
    oldest_due_s: float | None
    """For how long a worker could have run the job that has been due longest, in seconds; None if no job is due. Time
    that a job spent in the queue of its limit key or deferred does not count; that of a paused queue does."""
    dead_letters: int
    hosts_waiting: int
    """Hosts, or other limit keys, with waiting jobs."""
    hosts_cooling: int
    """Those in a cooldown."""
    hosts_paused: int
    """Names that are paused: hosts, or wildcards such as `*.example.org`, each of which counts once."""
    paused: bool
    """Whether the whole queue is paused."""
    now_ms: int
    """The time, by the clock of Redis."""
    slots: int
    """Of all live workers together."""
    workers: tuple[WorkerRecord, ...]
    """The live workers, those with the oldest heartbeat first."""
    redis_memory_bytes: int | None
    """Memory that Redis uses for all that is in it; None if it has no INFO, or forbids it."""
    redis_max_memory_bytes: int | None
    """Its `maxmemory`, at which it refuses jobs; 0: no limit."""


async def read_queue_state(
    redis: Redis, keys: Keys, *, runner: ScriptRunner | None = None, now_ms: int | None = None
) -> QueueState:
    """Reads the state in one round trip. Its cost does not depend on the number of jobs or hosts.

    `now_ms` replaces the clock of Redis in tests. Raises `RedisUnavailable` or `RedisRefused`.
    """
    with translated(redis):
        reply = await QueueCommands(keys).state(runner or ClientRunner(redis), now_ms=now_ms)
    records = ((decode_record(record), at_ms) for at_ms, record in reply.workers)
    workers = tuple(
        msgspec.structs.replace(record, heartbeat_ms=at_ms) for record, at_ms in records if record is not None
    )
    return QueueState(
        queue=keys.queue,
        due=reply.due,
        waiting=reply.waiting,
        deferred=reply.deferred,
        running=reply.running,
        demand=reply.demand,
        oldest_due_s=None if reply.oldest_due_ms is None else reply.oldest_due_ms / 1000,
        dead_letters=reply.dead_letters,
        hosts_waiting=reply.hosts_waiting,
        hosts_cooling=reply.hosts_cooling,
        hosts_paused=reply.hosts_paused,
        paused=reply.paused,
        now_ms=reply.now_ms,
        slots=sum(worker.concurrency for worker in workers),
        workers=workers,
        redis_memory_bytes=reply.memory_bytes,
        redis_max_memory_bytes=reply.max_memory_bytes,
    )
