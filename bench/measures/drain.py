"""The rate at which a worker empties a queue that was filled before it started.

The clock runs from the first finished job that Redis shows to the last, so it excludes the worker's start and the
enqueueing. A finished job has a stored result and has left the queue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from bench.testbed import adapter_process as talk
from bench.testbed.failure import BenchFailure
from bench.testbed.peers import Peer
from bench.testbed.processes import Child
from bench.testbed.redis_server import RedisServer
from bench.testbed.stage import Stage

POLL_S: Final = 0.005
FIRST_JOB_S: Final = 30.0
"""How long the first job may take, including the worker's start."""


class Drained(msgspec.Struct, frozen=True):
    """The outcome of one drain, per job where noted."""

    jobs: int
    """Jobs finished while the clock ran."""
    finished: int
    """Jobs finished in all, also before the clock ran."""
    elapsed_s: float
    trips: float
    commands: float
    redis_cpu_us: float

    @property
    def rate(self) -> float:
        return self.jobs / self.elapsed_s


class Job(msgspec.Struct, frozen=True):
    """The job to run, and the page it fetches, if any."""

    name: str
    page: str = ""

    def args(self, stage: Stage) -> list[str]:
        return [stage.site.url(self.page)] if self.page else []


EMPTY: Final = Job("empty")
FETCH_2K: Final = Job("fetch", "2k")
FETCH_100K: Final = Job("fetch", "100k")
FETCH_1M: Final = Job("fetch", "1m")
NAP: Final = Job("nap")


async def drain(
    stage: Stage,
    peer: Peer,
    job: Job,
    count: int,
    *,
    processes: int = 1,
    concurrency: int | None = None,
    window_s: float | None = None,
) -> Drained:
    """Enqueues `count` jobs on an empty Redis, starts the workers, and measures for at most the window."""
    producer = await stage.clean_producer(peer)
    await producer.ask("enqueue_many", job=job.name, args=job.args(stage), count=count, timeout_s=120.0)
    backlog = await talk.Backlog.of(stage.server, producer.hello, count)
    served = await stage.site.served()
    async with AsyncExitStack() as stack:
        settings = stage.settings(peer, concurrency=concurrency)
        workers = [await stack.enter_async_context(talk.worker(peer, settings, stage.folder)) for _ in range(processes)]
        drained = await watch(stage.server, backlog, workers, count, window_s or stage.options.window_s)
        for worker in workers:
            await worker.kill()  # a graceful stop takes seconds, and this Redis is not needed any more
    if job.page and (served := await stage.site.served() - served) < drained.finished:
        raise BenchFailure(f"{drained.finished} jobs finished, but the site answered only {served} requests")
    return drained


async def watch(
    server: RedisServer, backlog: talk.Backlog, workers: Sequence[Child], until: int, window_s: float
) -> Drained:
    """From the first finished job until `until` are finished, or the window is over."""
    give_up = time.monotonic() + FIRST_JOB_S
    while not (first := await backlog.finished()):
        for worker in workers:
            worker.check()
        if time.monotonic() > give_up:
            raise BenchFailure(f"no job finished within {FIRST_JOB_S:g} s: {workers[0].last_words()}")
        await asyncio.sleep(POLL_S)  # Redis tells a watcher of a sorted set's size only when asked
    started = time.monotonic()
    before = await server.usage()
    polls = 1  # the reading of `before` itself
    finished = first
    now = started
    while finished < until and now < started + window_s:
        await asyncio.sleep(POLL_S)
        finished = await backlog.finished()
        now = time.monotonic()
        polls += 1
    after = await server.usage()
    jobs = finished - first
    if jobs <= 0:
        for worker in workers:
            worker.check()
        raise BenchFailure(f"all {finished} jobs were finished at the first look, or none after it: too few to measure")
    return Drained(
        jobs=jobs,
        finished=finished,
        elapsed_s=now - started,
        trips=max(0, after.trips - before.trips - polls) / jobs,
        commands=max(0, after.commands - before.commands - polls) / jobs,
        redis_cpu_us=(after.cpu_s - before.cpu_s) * 1e6 / jobs,
    )
