"""The run of `make soak`: afterwards no key may remain and no process may have grown.

A real `redis-server`, `fetchq worker` processes, and one producer that bounds the length of the queue: empty jobs and
some fetches from a site on loopback, with results that live a few seconds. The run fails if

- a key remains after the queue is drained, the workers have ended and the results have expired. Keys with a TTL are
waited for, up to `LEFT_MAX_S`; a result may stay for its own TTL;

- the workers, by their own counts, finished fewer jobs than were enqueued (more is possible after a lease ended), the
site got more or fewer requests than there were fetches, or a worker exited by itself;

- memory grew by more than 10 % (`MAX_GROWTH`): the resident set of each process, and Redis's `used_memory` without
clients and scripts. Both are measured *at rest*, `rest_s` after the last result expired, once after the warm-up (a
tenth of the jobs) and once at the end. Under load memory follows the throughput, so those samples (`SAMPLE_S`) are
printed as a peak only.

Linux only: memory and CPU time are read from /proc. Producer and site share one process, which stores nothing of a job,
so its memory is checked too.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.chaos.fleet.processes import Fleet
from harness.chaos.fleet.site import HOST, CountingSite
from redis.asyncio import Redis
from tests.support.redis_server import RedisServer

from fetchq import FetchRequest, Producer
from fetchq.contract import wire
from fetchq.store.commands import NewJob
from fetchq.store.connection import connect
from fetchq.store.keys import Keys

from .coroutines import EMPTY, RESULT_TTL_ENV
from .leftovers import LEFT_MAX_S, SCAN, wait_for_leftovers
from .memory import Memory, read_cpu_s, read_memory
from .outcome import Load, Outcome, Pace, Progress

SAMPLE_S: Final = 0.5
REST_POLL_S: Final = 0.05
AT_REST_SAMPLES: Final = 20
DRAIN_S: Final = 120.0
PROGRESS_S: Final = 10.0
BATCH: Final = 1000
LEASE_S: Final = 15.0
_COUNT: Final = re.compile(r"worker\.stopped .*\bcomplete=(\d+)")


async def soak(load: Load) -> Outcome:
    """Runs a load until the queue is drained. Raises `TimeoutError` if it does not drain."""
    began = time.monotonic()
    progress = Progress()
    async with _test_bed(load) as bed:
        await bed.producer.limits.set(HOST, concurrency=bed.site.limit)
        await bed.fleet.start()
        with _running(_print_progress(progress, load)):
            warm, end, peak, pace = await _run_load(bed, load, progress)
        await bed.fleet.stop()
        await bed.producer.limits.clear(HOST)
        return Outcome(
            enqueued=progress.enqueued,
            finished=finished_by_workers(bed.folder),
            fetches=progress.fetches,
            fetched=bed.site.requests.total(),
            warm=warm,
            end=end,
            peak=peak,
            leftovers=await wait_for_leftovers(bed.redis, result_ttl_s=load.result_ttl_s),
            failures=bed.fleet.failures,
            took_s=time.monotonic() - began,
            pace=pace,
        )


@dataclass(frozen=True)
class _TestBed:
    redis: Redis
    site: CountingSite
    producer: Producer
    fleet: Fleet
    folder: Path


@asynccontextmanager
async def _test_bed(load: Load) -> AsyncIterator[_TestBed]:
    folder = Path(tempfile.mkdtemp(prefix="fetchq-soak-"))
    # Without these options the server allocates late in a run: a latency histogram of 27 KB for each new command, and
    # the arguments of the first 128 slow calls.
    server = RedisServer("--latency-tracking", "no", "--slowlog-log-slower-than", "-1")
    os.environ[RESULT_TTL_ENV] = str(load.result_ttl_s)
    fleet = Fleet(
        server.url,
        folder,
        size=load.workers,
        concurrency=load.concurrency,
        lease_s=LEASE_S,
        rng=random.Random(),
        settings="harness.soak.coroutines:Settings",
    )
    try:
        async with (
            CountingSite(wait_s=0, limit=load.workers * load.concurrency) as site,
            connect(server.url) as redis,
            Producer.from_url(server.url, max_queued=load.max_queued, when_full="wait") as producer,
        ):
            yield _TestBed(redis, site, producer, fleet, folder)
    finally:
        await fleet.stop()
        server.remove()
        shutil.rmtree(folder)


async def _run_load(bed: _TestBed, load: Load, progress: Progress) -> tuple[Memory, Memory, Memory, Pace]:
    """Returns the memory after the warm-up, at the end and at its peak, and the throughput after the warm-up."""
    redis, fleet = bed.redis, bed.fleet
    await _produce(bed.producer, bed.site, load, load.warm_up, progress)
    warm = await _memory_at_rest(redis, fleet, load)
    spent, started = await read_cpu_s(redis, fleet), time.monotonic()
    peak = [warm]
    with _running(_sample(redis, fleet, peak)):
        await _produce(bed.producer, bed.site, load, load.jobs, progress)
        await _wait_drained(redis)
    took_s = time.monotonic() - started
    cpu_s = {name: after - spent[name] for name, after in (await read_cpu_s(redis, fleet)).items()}
    end = await _memory_at_rest(redis, fleet, load)
    return warm, end, peak[-1], Pace(load.jobs, took_s, cpu_s)


@contextmanager
def _running(work: Coroutine[Any, Any, None]) -> Iterator[None]:
    """Runs `work`, which never ends by itself, until the block is left."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()


async def _print_progress(progress: Progress, load: Load) -> None:
    """Prints a line every `PROGRESS_S`."""
    before, total = 0, load.warm_up + load.jobs
    while True:
        await asyncio.sleep(PROGRESS_S)
        enqueued = progress.enqueued
        print(f"soak: {enqueued:,} of {total:,} jobs, {(enqueued - before) / PROGRESS_S:,.0f}/s", flush=True)
        before = enqueued


async def _produce(producer: Producer, site: CountingSite, load: Load, jobs: int, progress: Progress) -> None:
    """Enqueues fetches, spread evenly among empty jobs, in batches.

    The producer waits while the queue is full. One call for each job would take most of this process's time; `make
    bench` measures that.
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
    """`enqueue_job` for many jobs: the same payload, script, limits and back-pressure."""
    payload = wire.encode_job(EMPTY, (), {}, time.time_ns() // 1_000_000)
    writer = producer._writer
    reply = await writer.put([NewJob(writer.new_id(), payload, "", "", "") for _ in range(count)])
    if reply.problem is not None:
        raise reply.problem


async def _wait_drained(redis: Redis) -> None:
    async with asyncio.timeout(DRAIN_S):
        while await redis.zcard(Keys().pending):
            await asyncio.sleep(REST_POLL_S)


async def _memory_at_rest(redis: Redis, fleet: Fleet, load: Load) -> Memory:
    await _wait_drained(redis)
    await _wait_results_gone(redis, load.result_ttl_s)
    await asyncio.sleep(load.rest_s)
    rest = await read_memory(redis, fleet)
    for _ in range(AT_REST_SAMPLES):  # temporary buffers are not growth
        await asyncio.sleep(REST_POLL_S)
        rest = rest.lowest(await read_memory(redis, fleet))
    return rest


async def _wait_results_gone(redis: Redis, result_ttl_s: float) -> None:
    async with asyncio.timeout(result_ttl_s + LEFT_MAX_S):
        while [key async for key in redis.scan_iter(f"{Keys().result}*", count=SCAN)]:
            await asyncio.sleep(REST_POLL_S)


async def _sample(redis: Redis, fleet: Fleet, into: list[Memory]) -> None:
    """Keeps the highest sample only, so that a long run holds no more memory than a short one."""
    while True:
        into[-1] = into[-1].highest(await read_memory(redis, fleet))
        await asyncio.sleep(SAMPLE_S)


def finished_by_workers(folder: Path) -> int:
    """Sums the counts that workers log when they stop; a worker without a log line counts as zero."""
    logs = (log.read_text(encoding="utf-8", errors="replace") for log in folder.glob("worker-*.log"))
    return sum(int(count) for text in logs for count in _COUNT.findall(text))
