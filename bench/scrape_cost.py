"""`python -m bench.scrape_cost`: what a scrape of `/metrics/queue` costs Redis and the process that answers.

The queue is busy: a million jobs of many hosts, of which half could start jobs and no worker has looked at them yet; 64
workers with all slots in use, each job by a claim of its own; limits for thousands of hosts; fifty functions. CPU time
is measured, which is meaningful on a busy machine too.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import process_time
from typing import Final

import msgspec
from redis.asyncio import Redis

from bench.testbed.processes import stop_on_signals
from bench.testbed.redis_server import RedisServer, redis_server
from fetchq import FetchStatus, Producer
from fetchq.inspect.exposition import render
from fetchq.inspect.figures import ENDS, RESPONSE_CODES, QueueFigures, read_figures
from fetchq.inspect.workers import WorkerRecord
from fetchq.store.commands import AdmitJob, JobCommands
from fetchq.store.connection import connect
from fetchq.store.keys import Keys
from fetchq.store.runner import ClientRunner
from fetchq.telemetry import figures as fields

KEYS: Final = Keys()
LEASE_MS: Final = 3_600_000
BATCH: Final = 1_000
ROUNDS: Final = 9
SCRAPES: Final = 10
"""In each round: one is too short for the clocks."""
FUNCTIONS: Final = 50


class Load(msgspec.Struct, frozen=True):
    """What is in Redis."""

    jobs: int
    hosts: int
    workers: int
    slots: int
    """Of each worker."""
    limits: int


class Cost(msgspec.Struct, frozen=True):
    """CPU time of one scrape."""

    redis_ms: float
    asker_ms: float


async def measure(server: RedisServer, load: Load) -> tuple[Cost, QueueFigures]:
    """The median of the rounds, and the figures that the last scrape read."""
    costs = []
    async with connect(f"redis://127.0.0.1:{server.port}") as redis:
        await _fill(redis, load)
        figures = await _scrape(redis)  # loads the script, and what is imported when it is used
        for _ in range(ROUNDS):
            usage, began = await server.usage(), process_time()
            for _ in range(SCRAPES):
                figures = await _scrape(redis)
            asker_s, redis_s = process_time() - began, (await server.usage()).cpu_s - usage.cpu_s
            costs.append(Cost(1000 * redis_s / SCRAPES, 1000 * asker_s / SCRAPES))
    return Cost(median(cost.redis_ms for cost in costs), median(cost.asker_ms for cost in costs)), figures


async def _scrape(redis: Redis) -> QueueFigures:
    figures = await read_figures(redis, KEYS)
    render(figures)
    return figures


async def _fill(redis: Redis, load: Load) -> None:
    producer = Producer(redis, queue=KEYS.queue)
    await _run_jobs(redis, producer, load.workers * load.slots)
    hosts = [f"{number}.example" for number in range(load.hosts)]
    await _put(redis, KEYS.limits, {**dict.fromkeys(hosts[: load.limits], "c=4"), "*": "p=1"})
    for start in range(0, load.jobs, BATCH):
        urls = (f"https://{hosts[number % load.hosts]}/{number}" for number in range(start, start + BATCH))
        await producer.enqueue_many(urls)
    await _put(redis, KEYS.limits, {"*": "c=8"})  # not by `producer.limits`, which would make jobs ready
    async with redis.pipeline(transaction=False) as pipe:
        for host in hosts[: load.hosts // 2]:
            pipe.zadd(KEYS.due_hosts, {host: 1})
        for number in range(load.workers):
            record = WorkerRecord(
                id=f"worker{number}", host="bench", pid=number, version="0", queue=KEYS.queue, concurrency=load.slots
            )
            pipe.zadd(KEYS.workers, {record.id: number})
            pipe.set(f"{KEYS.worker}{record.id}", msgspec.json.encode(record))
        await pipe.execute()
    await _put(redis, KEYS.metrics, dict.fromkeys(_all_fields(), 1_000_000))


async def _run_jobs(redis: Redis, producer: Producer, count: int) -> None:
    """Jobs that run: each has a host, and a claim, of its own."""
    commands, runner = JobCommands(KEYS), ClientRunner(redis)
    for start in range(0, count, BATCH):
        await producer.enqueue_many(f"https://run{n}.example/" for n in range(start, min(count, start + BATCH)))
    for number in range(count):
        token = f"worker.{number}"
        claim = await commands.claim(
            runner, token=token, lease_ms=LEASE_MS, count=1, max_bytes=1 << 20, default_payload_ttl_ms=LEASE_MS,
            check_aborts=False,
        )  # fmt: skip
        await commands.admit(runner, [AdmitJob(claim.ids[0].decode(), token, f"run{number}.example", "", "")])


async def _put(redis: Redis, key: str, values: dict[str, str] | dict[str, int]) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for field, value in values.items():
            pipe.hset(key, field, str(value))
        await pipe.execute()


def _all_fields() -> list[str]:
    histograms = (fields.ATTEMPT_DURATION, *fields.WAIT.values(), *fields.PHASE.values())
    return [
        fields.ENQUEUED, fields.RETRIED_DEAD_LETTERS, fields.BODY_BYTES, fields.LEASES_LOST,
        *(f"{prefix}{status}" for prefix in (fields.FETCH, fields.ATTEMPT) for status in FetchStatus),
        *(f"{fields.RESPONSE}{code}" for code in RESPONSE_CODES),
        *(f"{fields.FUNCTION}{end}:function_{number}" for number in range(FUNCTIONS) for end in ENDS),
        *(field for histogram in histograms for field in histogram.fields()),
    ]  # fmt: skip


async def _main(load: Load) -> None:
    stop_on_signals()
    with tempfile.TemporaryDirectory(prefix="fetchq-bench-") as folder:
        async with redis_server(Path(folder)) as server:
            cost, figures = await measure(server, load)
    state = figures.state
    sys.stdout.write(
        f"{state.waiting:,} jobs wait for {state.hosts_waiting:,} hosts, {state.running:,} run on"
        f" {len(state.workers)} workers, demand {state.demand:,}\n"
        f"a scrape, median of {ROUNDS} rounds: {cost.redis_ms:.1f} ms of Redis's CPU,"
        f" {cost.asker_ms:.1f} ms of the asker's\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scrape_cost", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--hosts", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--slots", type=int, default=100)
    parser.add_argument("--limits", type=int, default=5_000, help="hosts with limits of their own")
    given = parser.parse_args()
    asyncio.run(_main(Load(given.jobs, given.hosts, given.workers, given.slots, given.limits)))


if __name__ == "__main__":
    main()
