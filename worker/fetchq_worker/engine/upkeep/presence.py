"""Presence: what each live worker says of itself, and who is alive."""

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
from fetchq.store.commands import WorkerCommands
from fetchq.store.errors import REDIS_ERRORS
from fetchq.store.keys import Keys
from fetchq.store.runner import ScriptRunner

logger = logging.getLogger("fetchq.engine")

HEARTBEATS_MISSED: Final = 3
"""After so many a worker counts as gone."""
LEAVE_TIMEOUT_S: Final = 1.0


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
    """One worker's record in Redis, for as long as it lives."""

    def __init__(self, keys: Keys, *, worker_id: str, heartbeat_s: float) -> None:
        self._commands: Final = WorkerCommands(keys)
        self._workers: Final = keys.workers
        self._record: Final = keys.worker + worker_id
        self._worker_id: Final = worker_id
        self._ttl_ms: Final = max(1, round(HEARTBEATS_MISSED * heartbeat_s * 1000))

    async def beat(self, runner: ScriptRunner, record: WorkerRecord) -> None:
        await self._commands.heartbeat(
            runner, worker_id=self._worker_id, record=msgspec.json.encode(record), ttl_ms=self._ttl_ms
        )

    async def leave(self, redis: Redis, *, health_check_key: str | None) -> None:
        """Says that the worker is gone. With Redis away or hung nothing is said: all these keys end by themselves."""
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT_S), redis.pipeline(transaction=True) as pipe:
                pipe.zrem(self._workers, self._worker_id)
                pipe.delete(self._record, *([health_check_key] if health_check_key else []))
                await pipe.execute()
        except REDIS_ERRORS as problem:
            logger.debug("presence.not_removed: %s", problem)


def new_record(worker_id: str, queue: str) -> WorkerRecord:
    """What does not change while this process lives."""
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
