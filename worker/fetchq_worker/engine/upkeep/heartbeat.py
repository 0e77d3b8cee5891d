"""The heartbeat: the periodic calls of a worker while it claims or runs jobs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from time import monotonic
from typing import Final

from redis.asyncio import Redis

from fetchq.inspect.workers import WorkerRecord
from fetchq.store.errors import REDIS_ERRORS, fault_of, reason_of
from fetchq.store.keys import Keys
from fetchq.store.runner import ScriptRunner
from fetchq.tasks import cancel_and_wait
from fetchq_worker.engine.queue.lease import Leases
from fetchq_worker.engine.run.dead_letters import DeadLetterWriter
from fetchq_worker.telemetry.measures import Reports

from .maintenance import QueueMaintainer
from .presence import Presence

logger = logging.getLogger("fetchq.engine")

RETRY_S: Final = 1.0
"""Maximum pause before a failed beat is repeated."""
LAST_REPORT_TIMEOUT_S: Final = 1.0


class Heartbeat:
    """Renews the leases of one worker, writes its record, and scans a page for the queue's maintenance."""

    def __init__(
        self,
        keys: Keys,
        leases: Leases,
        dead_letters: DeadLetterWriter,
        *,
        worker_id: str,
        every_s: float,
        default_payload_ttl_ms: int,
        record: Callable[[], WorkerRecord | None],
        reports: Reports | None = None,
    ) -> None:
        """`record` describes the worker; None while it claims nothing, and then only the leases are renewed. `reports`
        are added to the queue's figures.
        """
        self._leases = leases
        self._dead_letters = dead_letters
        self._every_s = every_s
        self._presence = Presence(keys, worker_id=worker_id, heartbeat_s=every_s)
        self._maintainer = QueueMaintainer(keys, gap_s=every_s, default_payload_ttl_ms=default_payload_ttl_ms)
        self._record = record
        self._reports = reports
        self._refusal = ""
        self._task: asyncio.Task[None] | None = None
        self._soon = asyncio.Event()
        self.answered_at = float("-inf")
        """When Redis last answered a beat, by the loop's clock."""
        self.round_trip_s: float | None = None
        """How long Redis took to answer the last beat that it answered."""

    def start(self, redis: Redis, runner: ScriptRunner) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(redis, runner), name="fetchq-heartbeat")

    def beat_soon(self) -> None:
        """Sends the next beat without delay."""
        self._soon.set()

    def stop_soon(self) -> None:
        """For callers that cannot await."""
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        if self._task is not None:
            await cancel_and_wait(self._task)
            self._task = None

    async def report_last(self, runner: ScriptRunner, record: WorkerRecord) -> None:
        """Reports what was measured since the last beat. Skipped while Redis is unavailable: then it is lost."""
        if self._reports is None or self._reports.next() is None:
            return
        try:
            async with asyncio.timeout(LAST_REPORT_TIMEOUT_S):
                await self._send(runner, record)
        except REDIS_ERRORS as problem:
            logger.debug("figures.not_reported error=%s", reason_of(problem))

    async def _send(self, runner: ScriptRunner, record: WorkerRecord) -> None:
        report = None if self._reports is None else self._reports.next()
        began = monotonic()
        refusal = await self._presence.beat(runner, record, report)
        self.round_trip_s = monotonic() - began
        if self._reports is not None and report is not None:
            self._reports.acknowledge()
            if refusal and refusal != self._refusal:
                logger.error("figures.refused error=%s", refusal)
            self._refusal = refusal

    async def sign_off(self, redis: Redis, *, health_check_key: str | None = None) -> None:
        """Deletes the worker's record, and arq's health check key if it is given.

        Must not run in the worker's main task, which may have been cancelled: before Python 3.11.3 no timeout, and so
        no Redis call, works in a cancelled task.
        """
        await self._presence.sign_off(redis, health_check_key=health_check_key)

    async def _run(self, redis: Redis, runner: ScriptRunner) -> None:
        first, refused = True, False
        while True:
            pause_s = self._every_s
            try:
                await self._beat(runner, first=first)
                first = refused = False
                self.answered_at = asyncio.get_running_loop().time()
            except REDIS_ERRORS as problem:
                # The claim loop logs an outage. Rights can be missing for the scripts of the heartbeat alone.
                level = logging.DEBUG if fault_of(problem).passes or refused else logging.ERROR
                refused = refused or level == logging.ERROR
                logger.log(level, "heartbeat.failed error=%s", reason_of(problem))
                pause_s = min(pause_s / 4, RETRY_S)
                if isinstance(problem, TimeoutError):
                    # A network that drops one idle connection drops all: the next call must not use another old one.
                    await redis.connection_pool.disconnect(inuse_connections=False)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._soon.wait()
            self._soon.clear()

    async def _beat(self, runner: ScriptRunner, *, first: bool) -> None:
        if len(self._leases):
            await self._leases.renew(runner)
        record = self._record()
        if record is None:
            return
        await self._send(runner, record)
        if not first:  # a short burst must not pay for maintenance
            await self._maintainer.scan_page(runner)
            await self._dead_letters.trim(runner)
