"""Presence: each worker's record in Redis, and the list of the live ones."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from typing import Final

import msgspec
from redis.asyncio import Redis

from fetchq import __version__
from fetchq.contract.wire import UNREADABLE
from fetchq.store.engine_scripts import REDIS_ERRORS, Script
from fetchq.store.keys import Keys

logger = logging.getLogger("fetchq.engine")

HEARTBEATS_MISSED: Final = 3
"""After this many a worker counts as dead."""
SIGN_OFF_TIMEOUT_S: Final = 1.0


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One worker, as it described itself with its last heartbeat."""

    id: str
    host: str
    pid: int
    version: str
    queue: str
    functions: tuple[str, ...] = ()
    concurrency: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    retried: int = 0
    started_at_ms: int = 0
    """By the worker's clock."""
    heartbeat_ms: int = 0
    """By Redis's clock; filled in where the record is read."""


class Presence:
    """Writes and removes one worker's record."""

    def __init__(self, keys: Keys, *, worker_id: str, heartbeat_s: float) -> None:
        self._workers: Final = keys.workers
        self._record: Final = keys.worker + worker_id
        self._worker_id: Final = worker_id
        self._ttl_ms: Final = max(1, round(HEARTBEATS_MISSED * heartbeat_s * 1000))

    async def beat(self, script: Script, record: WorkerRecord) -> None:
        await script((self._workers, self._record), ("", self._worker_id, msgspec.json.encode(record), self._ttl_ms))

    async def sign_off(self, redis: Redis, *, health_check_key: str | None) -> None:
        """Removes the record. With Redis away or hung this is skipped: all these keys have a TTL."""
        try:
            async with asyncio.timeout(SIGN_OFF_TIMEOUT_S), redis.pipeline(transaction=True) as pipe:
                pipe.zrem(self._workers, self._worker_id)
                pipe.delete(self._record, *([health_check_key] if health_check_key else []))
                await pipe.execute()
        except REDIS_ERRORS as problem:
            logger.debug("presence.not_removed: %s", problem)


def new_record(worker_id: str, queue: str) -> WorkerRecord:
    """The part of a record that does not change while the process lives."""
    return WorkerRecord(
        id=worker_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=__version__,
        queue=queue,
        started_at_ms=int(time.time() * 1000),
    )


async def live_workers(redis: Redis, keys: Keys) -> list[WorkerRecord]:
    """Every worker of a queue that is alive, the longest silent first."""
    beats = await redis.zrange(keys.workers, 0, -1, withscores=True)
    if not beats:
        return []
    prefix = keys.worker.encode()
    records = await redis.mget([prefix + worker_id for worker_id, _ in beats])
    known = ((decode_record(data), at) for data, (_, at) in zip(records, beats, strict=True) if data is not None)
    return [msgspec.structs.replace(record, heartbeat_ms=int(at)) for record, at in known if record is not None]


def decode_record(data: bytes) -> WorkerRecord | None:
    """What a worker says of itself; None for what no worker says."""
    try:
        return msgspec.json.decode(data, type=WorkerRecord)
    except UNREADABLE:
        return None
