"""The workers of a queue, as each describes itself in Redis with every heartbeat."""

from __future__ import annotations

from enum import StrEnum

import msgspec
from redis.asyncio import Redis

from fetchq.contract.wire import UNREADABLE
from fetchq.store.keys import Keys


class WorkerState(StrEnum):
    """What a worker does."""

    RUNNING = "running"
    QUIET = "quiet"
    """It claims no more jobs, and finishes those that it has."""
    STOPPING = "stopping"
    """It finishes its jobs within the grace time, returns the others to the queue, and ends."""


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One worker at its last heartbeat. The engine writes it as JSON; it expires a few heartbeats later."""

    id: str
    host: str
    pid: int
    version: str
    """Of `fetchq_worker`."""
    queue: str
    functions: tuple[str, ...] = ()
    concurrency: int = 0
    """Number of slots."""
    heartbeat_s: float = 0.0
    """Seconds between two heartbeats; 0: not known."""
    running: int = 0
    state: WorkerState = WorkerState.RUNNING
    completed: int = 0
    failed: int = 0
    retried: int = 0
    started_at_ms: int = 0
    """By the worker's clock."""
    heartbeat_ms: int = 0
    """By the clock of Redis; set when the record is read."""


async def live_workers(redis: Redis, keys: Keys) -> list[WorkerRecord]:
    """The workers whose record has not expired, those with the oldest heartbeat first."""
    heartbeats = await redis.zrange(keys.workers, 0, -1, withscores=True)
    if not heartbeats:
        return []
    prefix = keys.worker.encode()
    stored = await redis.mget([prefix + worker_id for worker_id, _ in heartbeats])
    records = (
        (decode_record(data), at_ms)
        for data, (_, at_ms) in zip(stored, heartbeats, strict=True)
        if data is not None  # expired, but still in the sorted set
    )
    return [msgspec.structs.replace(record, heartbeat_ms=int(at_ms)) for record, at_ms in records if record is not None]


def decode_record(data: bytes) -> WorkerRecord | None:
    """A worker's record; None if the bytes are not one."""
    try:
        return msgspec.json.decode(data, type=WorkerRecord)
    except UNREADABLE:
        return None
