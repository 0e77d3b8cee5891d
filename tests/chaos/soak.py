"""`make soak`: a day's worth of jobs in a row, after which nothing is left of them and nobody has grown.

A real `redis-server`, `fetchq worker` processes, and one producer that keeps the queue at a bounded depth: empty jobs,
and a share of fetches from a site on loopback, all with results that live a few seconds. The run fails if

- a key is left once the queue is drained, the workers have ended and the results' time is over; those with a time to
  live are waited for, up to `LEFT_MAX_S`, and a result may stay as long as its own says it does;
- a job was not finished, or a worker ended by itself;
- memory grew by more than 10 % (`MAX_GROWTH`): each worker's resident set, and Redis's `used_memory`, both taken *at
  rest*, that is with an empty queue and all results gone, after the warm-up and again at the end. Under load both
  follow the throughput of the moment, so those samples (`SAMPLE_S`) are printed as a peak, and not judged.

The warm-up is a share of the jobs (a tenth) and not of the count. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
from redis.asyncio import Redis
from tests.chaos.processes import Fleet
from tests.chaos.site import HOST, CountingSite
from tests.chaos.soaking import EMPTY, RESULT_TTL_ENV
from tests.redis_server import RedisServer

from fetchq import FetchRequest, Producer
from fetchq.keys import Keys
from fetchq.redis_url import connect

MAX_GROWTH: Final = 0.10
SAMPLE_S: Final = 0.5
REST_POLL_S: Final = 0.05
DRAIN_S: Final = 120.0
LEFT_MAX_S: Final = 60.0
BATCH: Final = 500
SCAN: Final = 1000
LEASE_S: Final = 15.0
EXPIRY_LATE_S: Final = 1.0
"""By so much Redis may take a key away later than its time says, where nobody asks for it."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What a soak puts on the queue."""

    jobs: int
    """After the warm-up."""
    warm_up: int
    fetch_share: float = 0.02
    result_ttl_s: float = 2.0
    max_queued: int = 5000
    workers: int = 2
    concurrency: int = 100


class Memory(msgspec.Struct, frozen=True):
    """What each process holds, in bytes."""

    workers: tuple[int, ...]
    redis: int

    def growth_to(self, later: Memory) -> dict[str, float]:
        """By which share each one has grown."""
        names = [*(f"worker {number}" for number in range(len(self.workers))), "Redis"]
        pairs = zip((*self.workers, self.redis), (*later.workers, later.redis), strict=True)
        return {name: after / before - 1 for name, (before, after) in zip(names, pairs, strict=True)}


class Soaked(msgspec.Struct, kw_only=True):
    """What one soak showed."""

    enqueued: int
    fetches: int
    fetched: int
    warm: Memory
    end: Memory
    peak: Memory
    leftovers: Counter[str]
    """Keys that are left, by their prefix."""
    failures: list[str]
    took_s: float

    @property
    def broken(self) -> list[str]:
        """What is not as it should be, a sentence each."""
        found = list(self.failures)
        if self.fetched != self.fetches:
            found.append(f"{self.fetches} fetches were enqueued, and {self.fetched} requests came")
        found += [f"{count} keys are left under {prefix}" for prefix, count in sorted(self.leftovers.items())]
        for name, growth in self.warm.growth_to(self.end).items():
            if growth > MAX_GROWTH:
                found.append(f"the memory of {name} grew by {growth:.1%}")
        return found


async def soak(load: Load) -> Soaked:
    """Runs a load to its end. Raises `TimeoutError` if the queue does not drain."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="fetchq-soak-"))
    server = RedisServer()
    os.environ[RESULT_TTL_ENV] = str(load.result_ttl_s)
    fleet = Fleet(
        server.url,
        folder,
        size=load.workers,
        concurrency=load.concurrency,
        lease_s=LEASE_S,
        rng=random.Random(),
        settings="tests.chaos.soaking:Settings",
    )
    try:
        async with (
            CountingSite(wait_s=0, limit=load.workers * load.concurrency) as site,
            connect(server.url) as redis,
            Producer.from_url(server.url, max_queued=load.max_queued, when_full="wait") as producer,
        ):
            await producer.limits.set(HOST, concurrency=site.limit)
            await fleet.start()
            fetches = await _produce(producer, site, load, load.warm_up)
            warm = await _memory_at_rest(redis, fleet, load)
            peaks = [warm]
            sampling = asyncio.create_task(_sample(redis, fleet, peaks))
            fetches += await _produce(producer, site, load, load.jobs)
            await _wait_drained(redis)
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
            end = await _memory_at_rest(redis, fleet, load)
            await fleet.stop()
            await producer.limits.clear(HOST)
            leftovers = await wait_for_leftovers(redis, result_ttl_s=load.result_ttl_s)
    finally:
        await fleet.stop()
        server.remove()
        shutil.rmtree(folder)
    return Soaked(
        enqueued=load.warm_up + load.jobs,
        fetches=fetches,
        fetched=site.requests.total(),
        warm=warm,
        end=end,
        peak=Memory(
            tuple(max(sizes) for sizes in zip(*(peak.workers for peak in peaks), strict=True)),
            max(peak.redis for peak in peaks),
        ),
        leftovers=leftovers,
        failures=fleet.failures,
        took_s=time.monotonic() - began,
    )


async def _produce(producer: Producer, site: CountingSite, load: Load, jobs: int) -> int:
    """Gives how many of them are fetches. They are spread evenly, and waits are the producer's own."""
    fetches = 0
    for first in range(0, jobs, BATCH):
        count = min(BATCH, jobs - first)
        wanted = round((first + count) * load.fetch_share) - fetches
        requests = [FetchRequest(url=f"{site.url}/0", result_ttl_s=load.result_ttl_s) for _ in range(wanted)]
        await producer.enqueue_many(requests)
        await asyncio.gather(*(producer.enqueue_call(EMPTY) for _ in range(count - wanted)))
        fetches += wanted
    return fetches


async def _wait_drained(redis: Redis) -> None:
    async with asyncio.timeout(DRAIN_S):
        while await redis.zcard(Keys().pending):
            await asyncio.sleep(REST_POLL_S)


async def _memory_at_rest(redis: Redis, fleet: Fleet, load: Load) -> Memory:
    await _wait_drained(redis)
    await _wait_results_gone(redis, load.result_ttl_s)
    return await _memory(redis, fleet)


async def _wait_results_gone(redis: Redis, result_ttl_s: float) -> None:
    async with asyncio.timeout(result_ttl_s + LEFT_MAX_S):
        while [key async for key in redis.scan_iter(f"{Keys().result}*", count=SCAN)]:
            await asyncio.sleep(REST_POLL_S)


async def _sample(redis: Redis, fleet: Fleet, into: list[Memory]) -> None:
    """Keeps the two ends of what was seen, so that a long run holds no more than a short one."""
    while True:
        seen = await _memory(redis, fleet)
        highest = into[-1]
        into[:] = [
            into[0],
            Memory(tuple(map(max, highest.workers, seen.workers)), max(highest.redis, seen.redis)),
        ]
        await asyncio.sleep(SAMPLE_S)


async def _memory(redis: Redis, fleet: Fleet) -> Memory:
    page = os.sysconf("SC_PAGE_SIZE")
    sizes = (Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1] for pid in fleet.pids)
    info = await redis.info("memory")
    return Memory(tuple(int(pages) * page for pages in sizes), info["used_memory"])


async def wait_for_leftovers(redis: Redis, *, result_ttl_s: float) -> Counter[str]:
    """What no time to live takes away: waits for what has one, and counts the rest by the prefix of its name.

    A key whose time is longer than `LEFT_MAX_S` counts as left, and so does a result whose time is not within its own.
    """
    until = time.monotonic() + LEFT_MAX_S
    prefix = Keys().result.encode()
    while True:
        left: Counter[str] = Counter()
        longest_s = 0.0
        async for key in redis.scan_iter(count=SCAN):
            ttl_s = await redis.pttl(key) / 1000
            allowed_s = result_ttl_s if key.startswith(prefix) else until - time.monotonic()
            if 0 <= ttl_s <= allowed_s:
                longest_s = max(longest_s, ttl_s)
            elif ttl_s > -0.002:
                left[_prefix(key)] += 1
        if left or longest_s == 0.0:
            return left
        await asyncio.sleep(min(longest_s, EXPIRY_LATE_S))


def _prefix(key: bytes) -> str:
    """`arq:job:1234` -> `arq:job:`; a name without a second colon stands for itself."""
    parts = key.decode(errors="replace").split(":")
    return ":".join(parts[:2]) + (":" if len(parts) > 2 else "")


def line(soaked: Soaked) -> str:
    """One soak on the terminal."""
    growth = ", ".join(f"{name} {share:+.1%}" for name, share in soaked.warm.growth_to(soaked.end).items())

    def mb(memory: Memory) -> str:
        return f"workers {' '.join(f'{size / 1e6:.1f}' for size in memory.workers)}, Redis {memory.redis / 1e6:.2f} MB"

    return (
        f"{soaked.enqueued:,} jobs, {soaked.fetches:,} of them fetches, in {soaked.took_s:.0f} s\n"
        f"    after the warm-up: {mb(soaked.warm)}\n    at the end: {mb(soaked.end)}\n    peak: {mb(soaked.peak)}\n"
        f"    grown: {growth}; keys left: {soaked.leftovers.total()}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000_000)
    given = parser.parse_args()
    warm_up = given.jobs // 10
    soaked = asyncio.run(soak(Load(jobs=given.jobs - warm_up, warm_up=warm_up)))
    print(f"soak: {line(soaked)}")
    for sentence in soaked.broken:
        print(f"    BROKEN: {sentence}")
    return 1 if soaked.broken else 0


if __name__ == "__main__":
    sys.exit(main())
