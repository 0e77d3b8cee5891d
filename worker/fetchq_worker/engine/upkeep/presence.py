"""The record of a live worker in Redis, which `fetchq.inspect.workers` reads."""

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
from fetchq.inspect.workers import WorkerRecord
from fetchq.store.commands import WorkerCommands
from fetchq.store.commands.workers import Report
from fetchq.store.errors import REDIS_ERRORS, reason_of
from fetchq.store.keys import Keys
from fetchq.store.runner import ScriptRunner

logger = logging.getLogger("fetchq.engine")

HEARTBEATS_MISSED: Final = 3
"""After this many a worker counts as dead."""
SIGN_OFF_TIMEOUT_S: Final = 1.0


class Presence:
    """Writes and removes one worker's record."""

    def __init__(self, keys: Keys, *, worker_id: str, heartbeat_s: float) -> None:
        self._commands: Final = WorkerCommands(keys)
        self._workers: Final = keys.workers
        self._record: Final = keys.worker + worker_id
        self._report: Final = keys.worker_report + worker_id
        self._worker_id: Final = worker_id
        self._ttl_ms: Final = max(1, round(HEARTBEATS_MISSED * heartbeat_s * 1000))

    async def beat(self, runner: ScriptRunner, record: WorkerRecord, report: Report | None = None) -> str:
        """Writes the record and counts a report. Returns why Redis refused to count a part of it; empty if it did."""
        encoded = msgspec.json.encode(record)
        return await self._commands.heartbeat(
            runner, worker_id=self._worker_id, record=encoded, ttl_ms=self._ttl_ms, report=report
        )

    async def sign_off(self, redis: Redis, *, health_check_key: str | None) -> None:
        """Removes the record and the number of the last report; skipped while Redis is unavailable: both have a TTL."""
        try:
            async with asyncio.timeout(SIGN_OFF_TIMEOUT_S), redis.pipeline(transaction=True) as pipe:
                pipe.zrem(self._workers, self._worker_id)
                pipe.delete(self._record, self._report, *([health_check_key] if health_check_key else []))
                await pipe.execute()
        except REDIS_ERRORS as problem:
            logger.debug("presence.not_removed error=%s", reason_of(problem))


def new_record(worker_id: str, queue: str, *, heartbeat_s: float) -> WorkerRecord:
    """The fields of a record that do not change while the process runs."""
    return WorkerRecord(
        id=worker_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=__version__,
        queue=queue,
        heartbeat_s=heartbeat_s,
        started_at_ms=int(time.time() * 1000),
    )
