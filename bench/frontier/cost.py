"""The cost of per-host limits where none is reached: 2 KB fetches from a thousand hosts, gate on and off."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import msgspec

from bench.testbed.failure import BenchFailure
from bench.testbed.processes import Child
from bench.testbed.redis_server import RedisServer
from bench.testbed.site import Site
from fetchq import Producer

from .figures import Figure, Sizes
from .jobs import hosts, requests_of
from .workers import bare_worker, cpu_s

JOBS_A_HOST: Final = 8
"""As many jobs of a host as may run at once, so that none is parked."""
MOST_COST: Final = 0.10
FINISH_S: Final = 120.0


class Spent(msgspec.Struct, frozen=True):
    """Seconds for one job."""

    wall_s: float
    worker_s: float
    redis_s: float

    @property
    def cpu_s(self) -> float:
        return self.worker_s + self.redis_s

    def __str__(self) -> str:
        return f"{self.worker_s * 1e6:,.0f} + {self.redis_s * 1e6:,.0f}"


async def measure(server: RedisServer, site: Site, folder: Path, sizes: Sizes) -> list[Figure]:
    on: list[Spent] = []
    off: list[Spent] = []
    for number in range(sizes.cost_rounds + 1):
        for gate, spent in ((True, on), (False, off)) if number % 2 else ((False, off), (True, on)):
            one = await _drain(server, site, folder, sizes, gate=gate)
            if number:  # the first round warms up
                spent.append(one)
    best_on, best_off = (min(spent, key=lambda one: one.cpu_s) for spent in (on, off))
    cpu = 1 - best_off.cpu_s / best_on.cpu_s
    wall_on, wall_off = (min(one.wall_s for one in spent) for spent in (on, off))
    wall = 1 - wall_off / wall_on
    return [
        Figure(
            f"throughput that the frontier costs 2 KB fetches from {sizes.other_hosts:,} hosts, no limit reached",
            f"{wall:.1%}: {1 / wall_on:,.0f}/s against {1 / wall_off:,.0f}/s",
            f"{MOST_COST:.0%}",
            wall <= MOST_COST,
        ),
        Figure(
            "the same by CPU time of worker + Redis, us a job",
            f"{cpu:.1%}: {best_on} against {best_off}",
            f"{MOST_COST:.0%}",
            cpu <= MOST_COST,
        ),
    ]


async def _drain(server: RedisServer, site: Site, folder: Path, sizes: Sizes, *, gate: bool) -> Spent:
    """Between the first tenth of the jobs and the last, to exclude start and end."""
    await server.empty()
    count = JOBS_A_HOST * sizes.other_hosts
    async with Producer.from_url(f"redis://127.0.0.1:{server.port}") as producer:
        await producer.enqueue_many(requests_of(site, hosts(sizes.other_hosts), count))
        pending = producer.keys.pending
    async with bare_worker(server, folder, f"worker-{'gate' if gate else 'no-gate'}", gate=gate) as worker:
        first = await _wait_left(server, worker, pending, count * 9 // 10)
        began = (time.monotonic(), cpu_s(worker.process.pid), (await server.usage()).cpu_s)
        last = await _wait_left(server, worker, pending, count // 10)
        ended = (time.monotonic(), cpu_s(worker.process.pid), (await server.usage()).cpu_s)
    wall_s, worker_s, redis_s = (end - start for start, end in zip(began, ended, strict=True))
    done = first - last
    return Spent(wall_s / done, worker_s / done, redis_s / done)


async def _wait_left(server: RedisServer, worker: Child, pending: str, count: int) -> int:
    """Waits until at most `count` jobs remain. Returns how many do."""
    until = time.monotonic() + FINISH_S
    while (left := int(await server.client.zcard(pending))) > count:
        worker.check()
        if time.monotonic() > until:
            raise BenchFailure(f"{left} jobs were left after {FINISH_S:g} s")
        await asyncio.sleep(0.01)  # a set's size gives no event to wait for
    return left
