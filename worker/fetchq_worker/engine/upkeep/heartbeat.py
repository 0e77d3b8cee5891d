"""Tending: what has to be done every few seconds for as long as anything runs."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from fetchq.store.errors import REDIS_ERRORS
from fetchq.store.runner import ScriptRunner
from fetchq.tasks import cancel_and_wait

from .maintenance import QueueMaintainer
from .presence import Presence, new_record

if TYPE_CHECKING:
    from fetchq_worker.engine.worker import Worker

logger = logging.getLogger("fetchq.engine")

AGAIN_S: Final = 1.0
"""How soon it is tried again where Redis was away."""


class Heartbeat:
    """Renews the leases of one worker, says that it is alive, keeps what waits, and trims the dead letters."""

    def __init__(self, worker: Worker, *, every_s: float) -> None:
        self._worker = worker
        self._every_s = every_s
        self._presence = Presence(worker.keys, worker_id=worker.id, heartbeat_s=every_s)
        self._maintainer = QueueMaintainer(worker.keys, gap_s=every_s, default_life_ms=worker.expires_extra_ms)
        self._record = new_record(worker.id, worker.queue_name)
        self._task: asyncio.Task[None] | None = None

    def start(self, runner: ScriptRunner) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._beat(runner), name="fetchq-tend")

    def stop_soon(self) -> None:
        """For where nothing can be awaited."""
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        if self._task is not None:
            await cancel_and_wait(self._task)
            self._task = None

    async def leave(self, *, closing: bool) -> None:
        """Takes the worker off the list of those that are alive. Not from within `main`, whose task may have been
        cancelled: before Python 3.11.3 no timeout works in such a task, and so no call of Redis."""
        await self._presence.leave(
            self._worker.pool, health_check_key=self._worker.health_check_key if closing else None
        )

    async def _beat(self, runner: ScriptRunner) -> None:
        first = True
        while True:
            pause_s = self._every_s
            try:
                await self._beat_once(runner, first=first)
                first = False
            except REDIS_ERRORS as problem:
                logger.debug("tend.failed: %s", problem)
                pause_s = min(pause_s / 4, AGAIN_S)
                if isinstance(problem, TimeoutError):
                    # A network that forgets connections forgets them all: the next try is not to find another dead one.
                    await self._worker.pool.connection_pool.disconnect(inuse_connections=False)
            await asyncio.sleep(pause_s)

    async def _beat_once(self, runner: ScriptRunner, *, first: bool) -> None:
        worker = self._worker
        if len(worker.leases):
            await worker.leases.renew(runner)
        if not worker.in_main:
            return
        record = msgspec.structs.replace(
            self._record,
            functions=tuple(worker.functions),
            concurrency=worker.max_jobs,
            running=worker.running_count,
            completed=worker.jobs_complete,
            failed=worker.jobs_failed,
            retried=worker.jobs_retried,
        )
        await self._presence.beat(runner, record)
        if not first:  # a worker that is there for a moment only (burst) leaves the queue to others
            await self._maintainer.walk(runner)
            await worker.dead.trim(runner)
