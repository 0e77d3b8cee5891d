"""A producer process of a chaos run: enqueues jobs and logs each acknowledged one.

A line `number id kind time` is written after `enqueue` has returned, in one write to a file opened for appending. So
the log of a killed producer has every acknowledged job. A failed enqueue is repeated as a new job.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from fetchq import Durability, FetchqError, FetchRequest, Job, NotDurable, Producer

CALLS_AT_A_TIME: Final = 45
FETCHES_AT_A_TIME: Final = 5
PAUSE_S: Final = 0.05


class Plan(msgspec.Struct, frozen=True):
    """The task of one producer process."""

    redis_url: str
    site_url: str
    acknowledged: str
    """The path of the log."""
    first: int
    """The number of its first job. A failed enqueue uses up a number."""
    count: int
    """The number of jobs to be acknowledged; it may enqueue a few more."""
    seed: int
    max_wait_s: float
    """Maximum wait of a `mark` job."""
    max_queued: int
    """Nothing is enqueued while this many jobs are pending or running."""
    durability: Durability = Durability.MEMORY


class Producing:
    """Enqueues the jobs of a plan until it is complete or the process is stopped."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._file = os.open(plan.acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._noted = 0
        self._stop = asyncio.Event()

    async def run(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
        plan = self._plan
        number = plan.first
        async with Producer.from_url(plan.redis_url, durability=plan.durability) as producer:
            while self._noted < plan.count and not self._stop.is_set():
                try:
                    if await producer._session.redis.zcard(producer.keys.pending) < plan.max_queued:
                        calls = range(number, number + CALLS_AT_A_TIME)
                        fetches = range(calls.stop, calls.stop + FETCHES_AT_A_TIME)
                        number = fetches.stop
                        await self._enqueue(producer, calls, fetches)
                        continue
                except (FetchqError, OSError):
                    pass  # unacknowledged jobs may be lost; the loop continues with new ones
                except Exception as problem:
                    if "redis" not in type(problem).__module__:
                        raise
                await asyncio.sleep(PAUSE_S)

    async def _enqueue(self, producer: Producer, calls: range, fetches: range) -> None:
        await asyncio.gather(*(self._call(producer, call) for call in calls))
        requests = [FetchRequest(url=f"{self._plan.site_url}/{fetch}", timeout_s=20) for fetch in fetches]
        sent_ms = _now_ms()
        try:
            jobs: Sequence[Job] = await producer.enqueue_many(requests)
        except FetchqError as problem:
            doubtful = problem.unconfirmed if isinstance(problem, NotDurable) else ()
            jobs = [job for job in problem.enqueued if isinstance(job, Job) and job.id not in doubtful]
        self._note(list(zip(fetches, jobs, strict=False)), "fetch", sent_ms)

    async def _call(self, producer: Producer, number: int) -> None:
        wait_s = self._random.uniform(0, self._plan.max_wait_s)
        sent_ms = _now_ms()
        try:
            job = await producer.enqueue_job("mark", number, round(wait_s, 4))
        except FetchqError:
            return
        self._note([(number, job)], "mark", sent_ms)

    def _note(self, jobs: Sequence[tuple[int, Job]], kind: str, sent_ms: int) -> None:
        at_ms = _now_ms()
        lines = "".join(f"{number} {job.id} {kind} {sent_ms} {at_ms}\n" for number, job in jobs)
        os.write(self._file, lines.encode())
        self._noted += len(jobs)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    asyncio.run(Producing(msgspec.json.decode(sys.argv[1], type=Plan)).run())
