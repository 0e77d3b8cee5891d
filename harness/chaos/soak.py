"""`make soak`: a day's worth of jobs in a row, after which nothing is left of them and nobody has grown.

A real `redis-server`, `fetchq worker` processes, and one producer that keeps the queue at a bounded depth: empty jobs,
and a share of fetches from a site on loopback, all with results that live a few seconds. The run fails if

- a key is left once the queue is drained, the workers have ended and the results' time is over; those with a time to
  live are waited for, up to `LEFT_MAX_S`, and a result may stay as long as its own says it does;
- the workers finished fewer jobs, by their own counts at their ends, than were enqueued (a lease that ended lets them
  finish more), the site was asked more or less often than there were fetches, or a worker ended by itself;
- memory grew by more than 10 % (`MAX_GROWTH`): each process's resident set, and Redis's `used_memory` without what it
  holds of clients and scripts, whose number does not follow that of jobs (2 MB are little beside it), both taken *at
  rest*, that is `rest_s` after the last result was gone, after the warm-up and again at the end. Under load both
  follow the throughput of the moment, so those samples (`SAMPLE_S`) are printed as a peak, and not judged.

The warm-up is a tenth of the jobs. Linux only: memory and CPU time are read from /proc. The producer and the site, one
process, keep nothing of a job: their memory is judged as well.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from tests.support.redis_server import RedisServer

from fetchq import FetchRequest, Producer
from fetchq.contract import wire
from fetchq.store.connection import connect
from fetchq.store.keys import Keys

from .page import Section, where_and_when
from .processes import Fleet
from .site import HOST, CountingSite
from .soaking import EMPTY, RESULT_TTL_ENV

DRIVER: Final = "producer and site"
MAX_GROWTH: Final = 0.10
SAMPLE_S: Final = 0.5
REST_POLL_S: Final = 0.05
AT_REST_SAMPLES: Final = 20
DRAIN_S: Final = 120.0
LEFT_MAX_S: Final = 60.0
PROGRESS_S: Final = 10.0
BATCH: Final = 1000
SCAN: Final = 1000
LEASE_S: Final = 15.0
_COUNT: Final = re.compile(r"worker\.stopped .*\bcomplete=(\d+)")
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
    rest_s: float = 7.0
    """So long workers tend their queue once, and Redis makes tables and buffers smaller that nobody uses."""


class Memory(msgspec.Struct, frozen=True):
    """What each process holds, in bytes."""

    workers: tuple[int, ...]
    redis: int
    driver: int

    def growth_to(self, later: Memory) -> dict[str, float]:
        """By which share each one has grown."""
        names = [*(f"worker {number}" for number in range(len(self.workers))), "Redis", DRIVER]
        pairs = zip((*self.workers, self.redis, self.driver), (*later.workers, later.redis, later.driver), strict=True)
        return {name: after / before - 1 for name, (before, after) in zip(names, pairs, strict=True)}

    def highest(self, other: Memory) -> Memory:
        workers = tuple(map(max, self.workers, other.workers))
        return Memory(workers, max(self.redis, other.redis), max(self.driver, other.driver))

    def lowest(self, other: Memory) -> Memory:
        workers = tuple(map(min, self.workers, other.workers))
        return Memory(workers, min(self.redis, other.redis), min(self.driver, other.driver))


class Progress(msgspec.Struct):
    """How far a soak has come."""

    enqueued: int = 0
    fetches: int = 0


class Pace(msgspec.Struct, frozen=True):
    """How fast the jobs after the warm-up went, from the first that was enqueued to an empty queue."""

    jobs: int
    took_s: float
    cpu_s: dict[str, float]
    """What each process spent meanwhile."""

    @property
    def jobs_s(self) -> float:
        return self.jobs / self.took_s

    @property
    def us_a_job(self) -> str:
        """The workers' CPU time together: each one has run a part of the jobs."""
        spent_s: dict[str, float] = {}
        for name, spent in self.cpu_s.items():
            who = "workers together" if name.startswith("worker ") else name
            spent_s[who] = spent_s.get(who, 0.0) + spent
        return ", ".join(f"{name} {1e6 * spent / self.jobs:.0f} µs" for name, spent in spent_s.items())


class Soaked(msgspec.Struct, kw_only=True):
    """What one soak showed."""

    enqueued: int
    finished: int
    """Without a failure, by the workers' own counts: a job that ran again counts again."""
    fetches: int
    fetched: int
    warm: Memory
    end: Memory
    peak: Memory
    leftovers: Counter[str]
    """Keys that are left, by their prefix."""
    failures: list[str]
    took_s: float
    pace: Pace

    @property
    def broken(self) -> list[str]:
        """What is not as it should be, a sentence each."""
        found = list(self.failures)
        if self.finished < self.enqueued:
            found.append(f"{self.enqueued} jobs were enqueued, and {self.finished} were finished")
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
    # It would keep a histogram of 27 KB of each command that is called for the first time, late in the run perhaps, and
    # some arguments of the first 128 calls that the machine held up.
    server = RedisServer("--latency-tracking", "no", "--slowlog-log-slower-than", "-1")
    os.environ[RESULT_TTL_ENV] = str(load.result_ttl_s)
    fleet = Fleet(
        server.url,
        folder,
        size=load.workers,
        concurrency=load.concurrency,
        lease_s=LEASE_S,
        rng=random.Random(),
        settings="harness.chaos.soaking:Settings",
    )
    progress = Progress()
    try:
        async with (
            CountingSite(wait_s=0, limit=load.workers * load.concurrency) as site,
            connect(server.url) as redis,
            Producer.from_url(server.url, max_queued=load.max_queued, when_full="wait") as producer,
        ):
            await producer.limits.set(HOST, concurrency=site.limit)
            await fleet.start()
            with _running(_tell(progress, load)):
                await _produce(producer, site, load, load.warm_up, progress)
                warm = peak = await _memory_at_rest(redis, fleet, load)
                spent, started = await _cpu_s(redis, fleet), time.monotonic()
                seen = [peak]
                with _running(_sample(redis, fleet, seen)):
                    await _produce(producer, site, load, load.jobs, progress)
                    await _wait_drained(redis)
                took_s = time.monotonic() - started
                cpu_s = {name: after - spent[name] for name, after in (await _cpu_s(redis, fleet)).items()}
                peak = seen[-1]
                end = await _memory_at_rest(redis, fleet, load)
            await fleet.stop()
            await producer.limits.clear(HOST)
            finished = finished_by_workers(folder)
            leftovers = await wait_for_leftovers(redis, result_ttl_s=load.result_ttl_s)
    finally:
        await fleet.stop()
        server.remove()
        shutil.rmtree(folder)
    return Soaked(
        enqueued=progress.enqueued,
        finished=finished,
        fetches=progress.fetches,
        fetched=site.requests.total(),
        warm=warm,
        end=end,
        peak=peak,
        leftovers=leftovers,
        failures=fleet.failures,
        took_s=time.monotonic() - began,
        pace=Pace(load.jobs, took_s, cpu_s),
    )


@contextmanager
def _running(work: Coroutine[Any, Any, None]) -> Iterator[None]:
    """Meanwhile `work` is done, which has no end of its own."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()


async def _tell(progress: Progress, load: Load) -> None:
    """A line every so often, for whoever waits for a long run."""
    before, total = 0, load.warm_up + load.jobs
    while True:
        await asyncio.sleep(PROGRESS_S)
        enqueued = progress.enqueued
        print(f"soak: {enqueued:,} of {total:,} jobs, {(enqueued - before) / PROGRESS_S:,.0f}/s", flush=True)
        before = enqueued


async def _produce(producer: Producer, site: CountingSite, load: Load, jobs: int, progress: Progress) -> None:
    """Fetches are spread evenly among the empty jobs, and waits are the producer's own.

    Both kinds go a batch a call, as of a service that has many: a call for each would be most of what this process
    does, and is not a soak's to measure (`make bench` does).
    """
    made = 0
    for first in range(0, jobs, BATCH):
        count = min(BATCH, jobs - first)
        wanted = round((first + count) * load.fetch_share) - made
        made += wanted
        requests = [FetchRequest(url=f"{site.url}/0", result_ttl_s=load.result_ttl_s) for _ in range(wanted)]
        await producer.enqueue_many(requests)
        await _enqueue_empty(producer, count - wanted)
        progress.enqueued += count
        progress.fetches += wanted


async def _enqueue_empty(producer: Producer, count: int) -> None:
    """`enqueue_job` for many: the same payload, script, limits and waiting."""
    payload = wire.encode_job(EMPTY, (), {}, time.time_ns() // 1_000_000)
    put = await producer._run_enqueue([(job_id, payload, "", "", "") for job_id in producer._ids.take(count)])
    if put.problem is not None:
        raise put.problem


async def _wait_drained(redis: Redis) -> None:
    async with asyncio.timeout(DRAIN_S):
        while await redis.zcard(Keys().pending):
            await asyncio.sleep(REST_POLL_S)


async def _memory_at_rest(redis: Redis, fleet: Fleet, load: Load) -> Memory:
    await _wait_drained(redis)
    await _wait_results_gone(redis, load.result_ttl_s)
    await asyncio.sleep(load.rest_s)
    rest = await _memory(redis, fleet)
    for _ in range(AT_REST_SAMPLES):  # what stands in the buffers of the moment is no growth
        await asyncio.sleep(REST_POLL_S)
        rest = rest.lowest(await _memory(redis, fleet))
    return rest


async def _wait_results_gone(redis: Redis, result_ttl_s: float) -> None:
    async with asyncio.timeout(result_ttl_s + LEFT_MAX_S):
        while [key async for key in redis.scan_iter(f"{Keys().result}*", count=SCAN)]:
            await asyncio.sleep(REST_POLL_S)


async def _sample(redis: Redis, fleet: Fleet, into: list[Memory]) -> None:
    """Keeps the highest of what was seen, so that a long run holds no more than a short one."""
    while True:
        into[-1] = into[-1].highest(await _memory(redis, fleet))
        await asyncio.sleep(SAMPLE_S)


async def _memory(redis: Redis, fleet: Fleet) -> Memory:
    page = os.sysconf("SC_PAGE_SIZE")
    sizes = [int(_proc(pid, "statm").split()[1]) * page for pid in (*fleet.pids, os.getpid())]
    info = await redis.info("memory")
    of_jobs = info["used_memory"] - info["mem_clients_normal"] - info["used_memory_scripts"]
    return Memory(tuple(sizes[:-1]), of_jobs, sizes[-1])


async def _cpu_s(redis: Redis, fleet: Fleet) -> dict[str, float]:
    """The CPU time of each process so far."""
    spent = {f"worker {number}": _process_cpu_s(pid) for number, pid in enumerate(fleet.pids)}
    info = await redis.info("cpu")
    return {**spent, "Redis": info["used_cpu_user"] + info["used_cpu_sys"], DRIVER: time.process_time()}


def _process_cpu_s(pid: int) -> float:
    fields = _proc(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8")


def finished_by_workers(folder: Path) -> int:
    """What the workers whose logs are in `folder` say at their ends; nothing of one that does not say it."""
    logs = (log.read_text(encoding="utf-8", errors="replace") for log in folder.glob("worker-*.log"))
    return sum(int(count) for text in logs for count in _COUNT.findall(text))


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
    pace = soaked.pace

    def mb(memory: Memory) -> str:
        workers = " ".join(f"{size / 1e6:.1f}" for size in memory.workers)
        return f"workers {workers}, Redis {memory.redis / 1e6:.2f}, {DRIVER} {memory.driver / 1e6:.1f} MB"

    return (
        f"{soaked.enqueued:,} jobs, {soaked.fetches:,} of them fetches, in {soaked.took_s:.0f} s;"
        f" {soaked.finished:,} finished\n"
        f"    pace after the warm-up: {pace.jobs_s:,.0f} jobs/s; CPU time a job: {pace.us_a_job}\n"
        f"    after the warm-up: {mb(soaked.warm)}\n    at the end: {mb(soaked.end)}\n    peak: {mb(soaked.peak)}\n"
        f"    grown: {growth}; keys left: {soaked.leftovers.total()}"
    )


def markdown(soaked: Soaked, command: str) -> str:
    """The same for docs/reliability.md."""
    pace = soaked.pace
    growth = soaked.warm.growth_to(soaked.end)
    held = {**{f"worker {n}": size for n, size in enumerate(soaked.end.workers)}}
    held |= {"Redis": soaked.end.redis, DRIVER: soaked.end.driver}
    lines = [
        f"Written by `{command}` on {where_and_when()}:",
        "",
        f"{soaked.enqueued:,} jobs, {soaked.fetches:,} of them fetches, in {soaked.took_s:,.0f} s;"
        f" {pace.jobs_s:,.0f} jobs/s after the warm-up. Keys left: {soaked.leftovers.total()}."
        f" Promises broken: {len(soaked.broken)}.",
        "",
        "| | memory at the end | grown since the warm-up |",
        "|---|---:|---:|",
    ]
    lines += [f"| {name} | {held[name] / 1e6:.1f} MB | {share:+.1%} |" for name, share in growth.items()]
    lines += ["", f"CPU time a job: {pace.us_a_job}."]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000_000)
    parser.add_argument("--write", action="store_true", help="write the figures to docs/reliability.md")
    given = parser.parse_args()
    warm_up = given.jobs // 10
    soaked = asyncio.run(soak(Load(jobs=given.jobs - warm_up, warm_up=warm_up)))
    print(f"soak: {line(soaked)}")
    for sentence in soaked.broken:
        print(f"    BROKEN: {sentence}")
    if given.write:
        Section("soak").write(markdown(soaked, f"make soak JOBS={given.jobs}"))
    return 1 if soaked.broken else 0


if __name__ == "__main__":
    sys.exit(main())
