"""The rate of one host with four processes in two workers, as the server counts it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.testbed.redis_server import RedisServer
from bench.testbed.site import Site
from fetchq import Producer
from fetchq.store.keys import Keys

from .figures import Figure, Sizes
from .jobs import requests_of
from .workers import fetchq_worker

HOST: Final = "127.201.0.1"
PER_S: Final = 20
LEAST_SHARE: Final = 0.95
START_S: Final = 60.0


async def measure(server: RedisServer, site: Site, folder: Path, sizes: Sizes) -> list[Figure]:
    await server.empty()
    jobs = round((sizes.rate_s + START_S) * PER_S)
    async with Producer.from_url(f"redis://127.0.0.1:{server.port}") as producer:
        await server.ask("HSET", producer.keys.limits, HOST, f"c=100 r={1_000_000 // PER_S}")
        async with (
            fetchq_worker(server, folder, "worker-one", processes=2) as one,
            fetchq_worker(server, folder, "worker-two", processes=2) as two,
        ):
            await _wait_ready(server, 4)
            await producer.enqueue_many(requests_of(site, [HOST], jobs))
            await asyncio.sleep(sizes.rate_s + 2)  # the period over which the rate is measured
            one.check()
            two.check()
    await server.empty()
    came = [request.at_s for request in site.requests() if request.host == HOST]
    came = [at_s for at_s in came if at_s < came[0] + sizes.rate_s]
    most, share = most_in_a_second(came), len(came) / (sizes.rate_s * PER_S)
    return [
        Figure(
            f"one host at {PER_S}/s, two workers of two processes, {sizes.rate_s:g} s: the most in any sliding second",
            f"{most}",
            f"{PER_S}",
            most <= PER_S,
        ),
        Figure("of the permitted total is used", f"{share:.1%}", f"{LEAST_SHARE:.0%}", share >= LEAST_SHARE),
    ]


async def _wait_ready(server: RedisServer, count: int) -> None:
    async with asyncio.timeout(START_S):
        while await server.ask("ZCARD", Keys().workers) < count:
            await asyncio.sleep(0.05)


def most_in_a_second(came_s: Sequence[float]) -> int:
    """The maximum number of these moments (in order) in any half-open window of one second."""
    most = first = 0
    for last, at_s in enumerate(came_s):
        while at_s - came_s[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most
