"""What a million jobs for one slow host cost all others: their throughput, and how long they wait."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from bench.redis_server import RedisServer
from bench.site import Site
from fetchq import FetchRequest, Producer

from .figures import Figure, Sizes
from .jobs import enqueue_evenly, hosts, percentile, rate_of, requests_of, runs_of, wait_finished
from .workers import fetchq_worker

SLOW_HOST: Final = "127.200.0.1"
BATCH: Final = 10_000
LEAST_SHARE: Final = 0.9
MOST_GROWTH_S: Final = 0.05
LOAD: Final = 0.5
"""How much of the throughput that the others have alone arrives while their waits are measured."""
FINISH_S: Final = 300.0


class Others(msgspec.Struct, frozen=True):
    """The median of the rounds."""

    per_s: float
    p99_s: float


async def measure(server: RedisServer, site: Site, folder: Path, sizes: Sizes) -> list[Figure]:
    alone = await _others(server, site, folder, sizes, "alone", offered_per_s=None)
    await server.empty()
    async with Producer.from_url(f"redis://127.0.0.1:{server.port}") as producer:
        await server.ask("HSET", producer.keys.limits, SLOW_HOST, "r=1000000")
        for start in range(0, sizes.deep_jobs, BATCH):
            count = min(BATCH, sizes.deep_jobs - start)
            await producer.enqueue_many(FetchRequest(url=site.url("2k", SLOW_HOST)) for _ in range(count))
    beside = await _others(server, site, folder, sizes, "beside", offered_per_s=LOAD * alone.per_s)
    await server.empty()
    share, growth_s = beside.per_s / alone.per_s, beside.p99_s - alone.p99_s
    return [
        Figure(
            f"throughput of {sizes.other_jobs:,} jobs for {sizes.other_hosts:,} hosts behind {sizes.deep_jobs:,} jobs "
            "for one host at 1/s",
            f"{beside.per_s:,.0f}/s; alone {alone.per_s:,.0f}/s; {share:.2f} of it",
            f"{LEAST_SHARE:g} of it",
            share >= LEAST_SHARE,
        ),
        Figure(
            f"their p99 wait at {LOAD:.0%} of that load",
            f"{beside.p99_s * 1000:,.0f} ms; alone {alone.p99_s * 1000:,.0f} ms; {growth_s * 1000:+,.0f} ms",
            f"under {MOST_GROWTH_S * 1000:+.0f} ms",
            growth_s < MOST_GROWTH_S,
        ),
    ]


async def _others(
    server: RedisServer, site: Site, folder: Path, sizes: Sizes, name: str, *, offered_per_s: float | None
) -> Others:
    """`offered_per_s`: the load at which waits are measured; None for half of the throughput found here."""
    requests = requests_of(site, hosts(sizes.other_hosts), sizes.other_jobs)
    async with (
        Producer.from_url(f"redis://127.0.0.1:{server.port}") as producer,
        fetchq_worker(server, folder, f"worker-{name}") as worker,
    ):
        warm = await producer.enqueue_many(requests[: sizes.other_jobs // 4])
        await wait_finished(server, warm, [worker], FINISH_S)
        rates, waits = [], []
        for _ in range(sizes.rounds):
            burst = await producer.enqueue_many(requests)
            await wait_finished(server, burst, [worker], FINISH_S)
            rates.append(rate_of(await runs_of(server, burst)))
        per_s = median(rates)
        for _ in range(sizes.rounds):
            even = await enqueue_evenly(producer, requests, LOAD * per_s if offered_per_s is None else offered_per_s)
            await wait_finished(server, even, [worker], FINISH_S)
            waits.append(percentile([run.wait_s for run in await runs_of(server, even)], 0.99))
        return Others(per_s, median(waits))
