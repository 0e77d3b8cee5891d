"""One run of a test worker: claims jobs, runs them and commits their outcomes, by the scripts of real workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

from redis.asyncio import Redis

from fetchq.contract.placement import KEY_PREFIX, deadline_ms_of, limit_key_of
from fetchq.contract.request import FetchRequest
from fetchq.store.commands import AdmitJob, CommitGroup, JobCommands
from fetchq.store.runner import ClientRunner
from fetchq.tasks import cancel_and_wait

from .execution import ClaimedJob, DecodedJob, Execution, Prepared

LEASE_MS: Final = 366 * 86_400_000
"""Longer than any test moves the clock, so that leases do not end."""
CLAIM_COUNT: Final = 64
MAX_CLAIM_BYTES: Final = 16 << 20
DAY_MS: Final = 86_400_000
MAX_DEAD_LETTERS: Final = 10_000


class QueueRun:
    """Runs jobs in the current event loop, on a client that it closes."""

    def __init__(self, redis: Redis, prepared: Prepared) -> None:
        self._redis: Final[Any] = redis
        self._wake: Final = prepared.keys.wake
        self._runner: Final = ClientRunner(redis)
        self._commands: Final = JobCommands(prepared.keys)
        self._loop: Final = asyncio.get_running_loop()
        self._wakeup: Final = asyncio.Event()
        """Set when a job may be due, or a run has ended."""
        self._stopping = False
        self._active: Final[set[asyncio.Task[None]]] = set()
        self._execution: Final = Execution(redis, prepared)
        self.finished = 0
        """Number of jobs that have ended."""

    def wake(self) -> None:
        """Checks for due jobs now; callable from any thread."""
        self._loop.call_soon_threadsafe(self._wakeup.set)

    def stop(self) -> None:
        """Ends `run` once no job is due or running; callable from any thread."""
        self._stopping = True
        self.wake()

    async def run(self) -> None:
        """Runs jobs until `stop`. Raises the first problem at the end."""
        listener = asyncio.create_task(self._listen(), name="fetchq-test-wake")
        try:
            while True:
                self._wakeup.clear()
                next_due_s = await self._start_due()
                if self._stopping and not self._active:
                    break
                await self._wait(next_due_s)
        finally:
            for task in (listener, *self._active):
                await cancel_and_wait(task)
            await self._redis.aclose()
        if self._execution.problems:
            raise self._execution.problems[0]

    async def _listen(self) -> None:
        while True:
            await self._redis.blpop([self._wake], timeout=0)
            self._wakeup.set()

    async def _wait(self, timeout_s: float | None) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._wakeup.wait()
        except TimeoutError:  # a deferred job is due
            return

    async def _start_due(self) -> float | None:
        """Starts the jobs that are due. Returns the seconds until the next one is."""
        offset = 0
        while True:
            token = f"test.{uuid4().hex}"
            reply = await self._commands.claim(
                self._runner,
                token=token,
                lease_ms=LEASE_MS,
                count=CLAIM_COUNT,
                max_bytes=MAX_CLAIM_BYTES,
                default_payload_ttl_ms=DAY_MS,
                check_aborts=True,
                offset=offset,
            )
            offset = reply.offset
            scores = reply.scores * len(reply.ids) if len(reply.scores) == 1 else reply.scores
            jobs = [
                ClaimedJob(key, token, payload, float(score), 1, False)
                for key, payload, score in zip(reply.ids, reply.payloads, scores, strict=True)
            ]
            for place, tries, aborted in reply.reported:
                jobs[place] = jobs[place]._replace(tries=tries, cancelled=aborted)
            await self._start(jobs)
            if not reply.more:
                return None if reply.wait_ms is None else reply.wait_ms / 1000

    async def _start(self, claimed: Sequence[ClaimedJob]) -> None:
        jobs = [DecodedJob.of(job) for job in claimed]
        limited = [
            AdmitJob(job.claimed.key, job.claimed.token, limit_key, _deadline(job), "")
            for job in jobs
            if (limit_key := _limit_key(job))
        ]
        refused: set[bytes] = set()
        expired: set[bytes] = set()
        if limited:
            reply = await self._commands.admit(self._runner, limited)
            refused, expired = set(reply.refused), set(reply.deadline_passed)
        for job in jobs:
            key = job.claimed.key
            if key not in refused:
                task = self._loop.create_task(self._run_job(job, expired=key in expired))
                self._active.add(task)
                task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._active.discard(task)
        self._wakeup.set()
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._execution.problems.append(problem)

    async def _run_job(self, job: DecodedJob, *, expired: bool) -> None:
        ended = await self._execution.run(job, expired=expired)
        group = CommitGroup(
            job.claimed.token, ended.action, ended.time_ms, None, "", ended.dead_letter, ended.figure,
            (job.claimed.key, ended.result),
        )  # fmt: skip
        await self._commands.commit(
            self._runner, [group], dead_letter_ttl_ms=30 * DAY_MS, max_dead_letters=MAX_DEAD_LETTERS
        )
        self.finished += ended.action not in ("retry", "requeue")


def _limit_key(job: DecodedJob) -> str:
    if isinstance(job.request, FetchRequest):
        return limit_key_of(job.request)
    key = job.stored.get("limit_key") if isinstance(job.stored, dict) and job.request is None else None
    return f"{KEY_PREFIX}{key}" if key else ""


def _deadline(job: DecodedJob) -> str | int:
    if job.claimed.cancelled:
        return 0  # admitted without limits, to end at once
    if isinstance(job.request, FetchRequest) and job.request.deadline is not None:
        return deadline_ms_of(job.request.deadline)
    return ""
