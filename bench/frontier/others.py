"""The effect of a million jobs for one slow host on other hosts: throughput and waiting time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final, Self

from bench.testbed.processes import Child
from bench.testbed.redis_server import RedisServer, redis_server
from bench.testbed.site import Site
from fetchq import FetchRequest, Producer
from fetchq.client.handles import FetchJob

from .figures import Figure, Sizes
from .jobs import Run, enqueue_evenly, hosts, percentile, rate_of, requests_of, runs_of, wait_finished
from .workers import fetchq_worker

SLOW_HOST: Final = "127.200.0.1"
BATCH: Final = 10_000
LEAST_SHARE: Final = 0.9
MOST_GROWTH_S: Final = 0.05
LOAD: Final = 0.5
"""The share of the others' throughput alone that arrives while their waits are measured."""
FINISH_S: Final = 300.0


class Place:
    """A Redis with its own worker, on which the others' jobs run."""

    def __init__(
        self, server: RedisServer, producer: Producer, worker: Child, requests: Sequence[FetchRequest]
    ) -> None:
        self._server = server
        self._producer = producer
        self._worker = worker
        self._requests = requests
        self.rates: list[float] = []
        """Jobs per second of each round."""
        self.waits_s: list[float] = []
        """The 99th percentile of each round."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, server: RedisServer, folder: Path, name: str, requests: Sequence[FetchRequest]
    ) -> AsyncIterator[Self]:
        async with (
            Producer.from_url(f"redis://127.0.0.1:{server.port}") as producer,
            fetchq_worker(server, folder, f"worker-{name}") as worker,
        ):
            place = cls(server, producer, worker, requests)
            await place._finish(await producer.enqueue_many(requests[: len(requests) // 4]))  # to warm up
            yield place

    async def run(self) -> None:
        """Enqueues all jobs at once."""
        self.rates.append(rate_of(await self._finish(await self._producer.enqueue_many(self._requests))))

    async def run_evenly(self, per_s: float) -> None:
        runs = await self._finish(await enqueue_evenly(self._producer, self._requests, per_s))
        self.waits_s.append(percentile([run.wait_s for run in runs], 0.99))

    async def _finish(self, jobs: Sequence[FetchJob]) -> list[Run]:
        await wait_finished(self._server, jobs, [self._worker], FINISH_S)
        return await runs_of(self._server, jobs)


async def measure(server: RedisServer, site: Site, folder: Path, sizes: Sizes) -> list[Figure]:
    """Measures alone and behind the million in turn, so that other load on the machine affects both."""
    requests = requests_of(site, hosts(sizes.other_hosts), sizes.other_jobs)
    async with redis_server(folder, "redis-deep") as deep:
        async with Producer.from_url(f"redis://127.0.0.1:{deep.port}") as producer:
            await deep.ask("HSET", producer.keys.limits, SLOW_HOST, "r=1000000")
            for start in range(0, sizes.deep_jobs, BATCH):
                count = min(BATCH, sizes.deep_jobs - start)
                await producer.enqueue_many(FetchRequest(url=site.url("2k", SLOW_HOST)) for _ in range(count))
        async with (
            Place.open(server, folder, "alone", requests) as alone,
            Place.open(deep, folder, "beside", requests) as beside,
        ):
            for _ in range(sizes.rounds):
                await alone.run()
                await beside.run()
            alone_per_s, beside_per_s = median(alone.rates), median(beside.rates)
            for _ in range(sizes.rounds):
                await alone.run_evenly(LOAD * alone_per_s)
                await beside.run_evenly(LOAD * alone_per_s)
    alone_s, beside_s = median(alone.waits_s), median(beside.waits_s)
    share = median(there / here for here, there in zip(alone.rates, beside.rates, strict=True))
    growth_s = median(there - here for here, there in zip(alone.waits_s, beside.waits_s, strict=True))
    return [
        Figure(
            f"throughput of {sizes.other_jobs:,} jobs for {sizes.other_hosts:,} hosts behind {sizes.deep_jobs:,} jobs "
            "for one host at 1/s",
            f"{beside_per_s:,.0f}/s; alone {alone_per_s:,.0f}/s; {share:.2f} of it",
            f"{LEAST_SHARE:g} of it",
            share >= LEAST_SHARE,
        ),
        Figure(
            f"their p99 wait at {LOAD:.0%} of that load",
            f"{beside_s * 1000:,.0f} ms; alone {alone_s * 1000:,.0f} ms; {growth_s * 1000:+,.0f} ms",
            f"under {MOST_GROWTH_S * 1000:+.0f} ms",
            growth_s < MOST_GROWTH_S,
        ),
    ]
