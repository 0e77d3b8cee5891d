"""The jobs of these measures, and their timings from the stored results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from bench.testbed.failure import BenchFailure
from bench.testbed.processes import Child
from bench.testbed.redis_server import RedisServer
from bench.testbed.site import Site
from fetchq import FetchRequest, Producer
from fetchq.client.handles import FetchJob
from fetchq.contract.wire import deserialize

READ: Final = 1_000
LOOKED_FOR: Final = 50
"""Results read in one call: only those that are stored. Reading all of them was a tenth of Redis's work."""


class Run(msgspec.Struct, frozen=True):
    """Times of a finished job, in seconds since the epoch."""

    enqueued_s: float
    started_s: float
    finished_s: float

    @property
    def wait_s(self) -> float:
        return self.started_s - self.enqueued_s


def hosts(count: int) -> list[str]:
    """This many addresses on loopback, each of which is a host."""
    return [f"127.{1 + number // 60_000}.{number % 60_000 // 250}.{1 + number % 250}" for number in range(count)]


def requests_of(site: Site, names: Sequence[str], count: int) -> list[FetchRequest]:
    """`count` fetches, from each host in turn."""
    return [FetchRequest(url=site.url("2k", names[number % len(names)])) for number in range(count)]


async def enqueue_evenly(producer: Producer, requests: Iterable[FetchRequest], per_s: float) -> list[FetchJob]:
    """Enqueues at a constant rate, at least ten times a second."""
    waiting = list(requests)
    jobs: list[FetchJob] = []
    began = time.monotonic()
    while waiting:
        due = round((time.monotonic() - began) * per_s) + 1 - len(jobs)
        if due > 0:
            batch, waiting = waiting[:due], waiting[due:]
            jobs += await producer.enqueue_many(batch)
        await asyncio.sleep(0.01)  # the constant rate is part of the measure
    return jobs


async def wait_finished(
    server: RedisServer, jobs: Sequence[FetchJob], workers: Sequence[Child], timeout_s: float
) -> None:
    """Waits until each has a result. Raises `BenchFailure` if that takes too long, or a worker ends."""
    left = [job.id for job in jobs]
    until = time.monotonic() + timeout_s
    while left:
        for worker in workers:
            worker.check()
        if time.monotonic() > until:
            raise BenchFailure(f"{len(left)} of {len(jobs)} jobs were not finished within {timeout_s:g} s")
        answers = await server.client.exists(*[f"arq:result:{job_id}" for job_id in left[:LOOKED_FOR]])
        if answers == len(left[:LOOKED_FOR]):
            left = left[LOOKED_FOR:]
        else:
            await asyncio.sleep(0.05)  # many results are read in one call, not awaited singly


async def runs_of(server: RedisServer, jobs: Sequence[FetchJob]) -> list[Run]:
    """The times in the results, in the order in which the jobs ended."""
    runs = []
    for start in range(0, len(jobs), READ):
        stored: list[Any] = await server.client.mget([f"arq:result:{job.id}" for job in jobs[start : start + READ]])
        for data in stored:
            result = deserialize(data)
            if not result["s"] or result["r"]["status"] != "OK":
                raise BenchFailure(f"a fetch failed: {result['r']!r}")
            runs.append(Run(result["et"] / 1000, result["st"] / 1000, result["ft"] / 1000))
    return sorted(runs, key=lambda run: run.finished_s)


def rate_of(runs: Sequence[Run]) -> float:
    """Jobs per second between the first twentieth and the last, to exclude start and end."""
    first, last = len(runs) // 20, len(runs) - 1 - len(runs) // 20
    return (last - first) / (runs[last].finished_s - runs[first].finished_s)


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
