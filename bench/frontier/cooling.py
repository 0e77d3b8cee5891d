"""A 429 with `Retry-After` to one worker: when all workers stop, and when they continue."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from bench.testbed.redis_server import RedisServer
from bench.testbed.site import RETRY_AFTER_S, Site
from fetchq import FetchRequest, Producer

from .figures import Figure, Sizes
from .jobs import enqueue_evenly, requests_of, wait_finished
from .workers import fetchq_worker

HOST: Final = "127.202.0.1"
PER_S: Final = 100
BEFORE_S: Final = 2.0
STOPS_S: Final = 0.1
RESUMES_S: Final = 1.0
TOO_MANY: Final = 429
WARM: Final = 50
START_S: Final = 60.0


async def measure(server: RedisServer, site: Site, folder: Path, _sizes: Sizes) -> list[Figure]:
    await server.empty()
    async with (
        Producer.from_url(f"redis://127.0.0.1:{server.port}") as producer,
        fetchq_worker(server, folder, "worker-cooled-one", processes=2) as one,
        fetchq_worker(server, folder, "worker-cooled-two", processes=2) as two,
    ):
        warm = await producer.enqueue_many(requests_of(site, [HOST], WARM))
        await wait_finished(server, warm, [one, two], START_S)
        seconds = BEFORE_S + RETRY_AFTER_S + 2 * RESUMES_S
        feeding = asyncio.create_task(
            enqueue_evenly(producer, requests_of(site, [HOST], round(PER_S * seconds)), PER_S)
        )
        await asyncio.sleep(BEFORE_S)  # all workers are fetching
        await producer.enqueue(FetchRequest(url=site.url("too-many", HOST)))
        await feeding
        one.check()
        two.check()
    await server.empty()
    came = [request for request in site.requests() if request.host == HOST]
    told_s = next((request.at_s for request in came if request.status == TOO_MANY), None)
    if told_s is None:
        return [Figure("a 429 with Retry-After", "the site was never asked", "asked", False)]
    later = [request.at_s - told_s for request in came if request.at_s > told_s]
    before_end = [after_s for after_s in later if after_s < RETRY_AFTER_S]
    stopped_s = max(before_end, default=0.0)
    resumed_s = min((after_s for after_s in later if after_s >= RETRY_AFTER_S), default=float("inf")) - RETRY_AFTER_S
    return [
        Figure(
            f"a 429 with Retry-After: {RETRY_AFTER_S} stops all workers for that host within",
            f"{stopped_s * 1000:,.0f} ms ({len(before_end)} more requests)",
            f"{STOPS_S * 1000:g} ms",
            stopped_s <= STOPS_S,
        ),
        Figure(
            "and they resume after its end within", f"{resumed_s:.2f} s", f"{RESUMES_S:g} s", resumed_s <= RESUMES_S
        ),
    ]
