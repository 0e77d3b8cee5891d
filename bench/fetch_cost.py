"""`python -m bench.fetch_cost`: the CPU time of one 2 KB fetch, by the way in which it is made.

In turn: a loop of bare aiohttp, `fetch` awaited in place, and fetches that a worker claims from a queue. Each number is
the minimum of several rounds, since disturbances only add. nginx and Redis run in their own processes and are not
counted. A fetch through the queue includes its share of the worker's start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import process_time
from typing import Final

import uvloop
from arq.connections import ArqRedis

from bench.testbed.failure import BenchFailure
from bench.testbed.redis_server import RedisServer, redis_server
from bench.testbed.site import BODIES, nginx_site
from fetchq import FetchRequest, Producer
from fetchq.store.connection import connect
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.gc_tuning import tune_gc
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.settings import Settings

from .adapters import jobs

FETCHES: Final = 5_000
CONCURRENCY: Final = 100
ROUNDS: Final = 15
PAGE: Final = "2k"

BARE: Final = "bare aiohttp"
IN_PLACE: Final = "fetch, awaited in place"
QUEUED: Final = "fetch, through the queue"

Spend = Callable[[str], Awaitable[float]]
"""Makes `FETCHES` fetches of a URL. Returns the seconds of CPU time."""


async def spend_bare(url: str) -> float:
    """A loop of aiohttp alone."""
    async with jobs.new_session() as session:

        async def one() -> None:
            answer = await jobs.fetch(session, url)
            if len(answer["body"]) != BODIES[PAGE]:
                raise BenchFailure("the bare loop got another body than it asked for")

        return await _spend(one)


async def spend_in_place(url: str) -> float:
    """`fetch` awaited: contract, guard and client, without a queue."""
    async with Fetcher(user_agent="fetchq-bench/1", allow_net=("127.0.0.1/32",)) as fetcher:
        context = {"fetcher": fetcher}

        async def one() -> None:
            result = await fetch(context, FetchRequest(url=url))
            if not result.ok or result.body_size != BODIES[PAGE]:
                raise BenchFailure(f"a fetch ended as {result.status}: {result.error}")

        return await _spend(one)


async def _spend(one: Callable[[], Awaitable[None]]) -> float:
    async def run() -> None:
        for _ in range(FETCHES // CONCURRENCY):
            await one()

    await asyncio.gather(*(one() for _ in range(CONCURRENCY)))  # connections are made before the clock starts
    began = process_time()
    await asyncio.gather(*(run() for _ in range(CONCURRENCY)))
    return process_time() - began


async def spend_queued(server: RedisServer, url: str) -> float:
    """A worker in this process drains a queue."""
    await server.empty()
    redis_url = f"redis://127.0.0.1:{server.port}"
    async with Producer.from_url(redis_url) as producer:
        await producer.limits.set("*", concurrency=FETCHES)  # all go to one host, whose limit must not delay them
        await producer.enqueue_many(url for _ in range(FETCHES))
    settings = Settings(redis_url=redis_url, concurrency=CONCURRENCY, allow_net=("127.0.0.1/32",))
    redis = connect(redis_url, redis_class=ArqRedis)
    worker = make_worker(worker_settings(settings=settings), redis, burst=True, handle_signals=False)
    try:
        began = process_time()
        await worker.async_run()
        spent = process_time() - began
    finally:
        await worker.close()
    if worker.jobs_complete != FETCHES or worker.jobs_failed or worker.jobs_retried:
        raise BenchFailure(f"{worker.jobs_complete} jobs of {FETCHES} were completed")
    return spent


async def measure(rounds: int) -> dict[str, float]:
    """CPU microseconds of a fetch, by the way in which it is made; the minimum of `rounds`, which take turns."""
    least: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="fetchq-fetch-cost-") as name:
        folder = Path(name)
        async with redis_server(folder) as server, nginx_site(folder) as site:
            url = site.url(PAGE)
            ways: dict[str, Spend] = {
                BARE: spend_bare,
                IN_PLACE: spend_in_place,
                QUEUED: lambda url: spend_queued(server, url),
            }
            for way in ways.values():  # fills caches, and exempts loaded objects from garbage collection
                await way(url)
            tune_gc()
            for _ in range(rounds):
                for what, way in ways.items():
                    us = await way(url) / FETCHES * 1e6
                    least[what] = min(us, least.get(what, us))
    return least


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fetch_cost", description="CPU time of one fetch of 2 KB.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each way is measured")
    parser.add_argument("--json", action="store_true", help="print the microseconds as one JSON object")
    given = parser.parse_args()
    try:
        least = uvloop.run(measure(max(1, given.rounds)))
    except BenchFailure as problem:
        print(problem, file=sys.stderr)
        return 1
    if given.json:
        names = {BARE: "bare", IN_PLACE: "in_place", QUEUED: "queued"}
        print(json.dumps({names[what]: us for what, us in least.items()}))
        return 0
    bare = least[BARE]
    for what, us in least.items():
        print(f"{us:8.1f} us  {us / bare:5.2f} of bare aiohttp  {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
