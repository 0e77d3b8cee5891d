"""`python -m bench.metrics_cost`: what the figures of a queue cost: jobs with `metrics` on and off, in one run.

The two take turns. Each line has the CPU time of worker and Redis for one job, the lowest of the rounds, since other
processes only add to it. Then, of each kind, what the throughput with metrics is of that without, where the CPU of that
process is the limit, by the lowest and by the median of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, Final, cast

import msgspec
import uvloop
from arq.connections import ArqRedis
from arq.typing import WorkerCoroutine
from arq.worker import func

from bench.empty_cost import EMPTY, fill
from bench.testbed.failure import BenchFailure
from bench.testbed.processes import run, stop_on_signals
from bench.testbed.redis_server import RedisServer, redis_server
from bench.testbed.site import nginx_site
from fetchq import Producer
from fetchq.store.connection import connect
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.gc_tuning import tune_gc
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.settings import Settings

ROUNDS: Final = 9
ROUND_S: Final = 180.0
PAGE: Final = "2k"
FETCHES: Final = "fetches"

Fill = Callable[[RedisServer, int], Awaitable[None]]


class Kind(msgspec.Struct, frozen=True):
    """One kind of jobs."""

    name: str
    jobs: int
    warm_up: int
    """The first jobs are not counted: they pay for what is made once."""
    fill: Fill


class Cost(msgspec.Struct, frozen=True):
    """Microseconds of CPU time for a job."""

    worker_us: float
    redis_us: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.metrics_cost", description="What metrics cost a job.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=(EMPTY, FETCHES), help="one kind of jobs")
    parser.add_argument(
        "--work", nargs=5, metavar=("PORT", "JOBS", "WARM_UP", "KIND", "METRICS"), help=argparse.SUPPRESS
    )
    given = parser.parse_args()
    if given.work is not None:
        port, jobs, warm_up, kind, metrics = given.work
        print(json.dumps(_work(port, int(jobs), int(warm_up), fetches=kind == FETCHES, metrics=metrics == "on")))
        return 0
    try:
        asyncio.run(_compare(max(1, given.rounds), given.only))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    except BenchFailure as problem:
        print(f"metrics_cost: {problem}", file=sys.stderr)
        return 1
    return 0


async def _compare(rounds: int, only: str | None) -> None:
    stop_on_signals()
    with tempfile.TemporaryDirectory(prefix="fetchq-bench-") as name:
        folder = Path(name)
        async with redis_server(folder) as server, nginx_site(folder) as site:
            url = site.url(PAGE)

            async def fill_fetches(server: RedisServer, count: int) -> None:
                await _fill_fetches(server, url, count)

            every_kind = (
                Kind(EMPTY, 60_000, 2_000, fill),
                Kind(FETCHES, 15_000, 1_000, fill_fetches),
            )
            kinds = [kind for kind in every_kind if only in (None, kind.name)]
            costs: dict[tuple[str, str], list[Cost]] = {}
            for number in range(rounds):
                for kind in kinds:
                    order = ("off", "on") if number % 2 else ("on", "off")
                    for metrics in order:
                        cost = await _take(kind, server, metrics, folder)
                        costs.setdefault((kind.name, metrics), []).append(cost)
    for kind in kinds:
        on, off = costs[kind.name, "on"], costs[kind.name, "off"]
        for metrics, taken in (("off", off), ("on", on)):
            lowest = _summary(taken, min)
            costs_us = f"{lowest.worker_us:8.2f} us worker {lowest.redis_us:8.2f} us Redis"
            print(f"{costs_us}  a job ({kind.name}), metrics {metrics}")
        for name, summary in (("lowest", min), ("median", median)):
            before, after = _summary(off, summary), _summary(on, summary)
            worker, redis = before.worker_us / after.worker_us, before.redis_us / after.redis_us
            print(f"{worker:8.3f}    worker {redis:8.3f}    Redis  of the throughput without metrics ({name})")


def _summary(costs: list[Cost], summary: Callable[[list[float]], float]) -> Cost:
    return Cost(summary([cost.worker_us for cost in costs]), summary([cost.redis_us for cost in costs]))


async def _take(kind: Kind, server: RedisServer, metrics: str, folder: Path) -> Cost:
    """One round: a queue filled, and drained by a worker process of its own."""
    await server.empty()
    total = kind.warm_up + kind.jobs
    await kind.fill(server, total)
    before = (await server.usage()).cpu_s
    work = [str(server.port), str(kind.jobs), str(kind.warm_up), kind.name, metrics]
    command: list[str | Path] = [sys.executable, "-m", "bench.metrics_cost", "--work", *work]
    answer = json.loads(await run("worker", command, folder, timeout_s=ROUND_S, env={}))
    redis_s = (await server.usage()).cpu_s - before
    return Cost(answer["cpu_s"] / kind.jobs * 1e6, redis_s / total * 1e6)


async def _fill_fetches(server: RedisServer, url: str, count: int) -> None:
    async with Producer.from_url(f"redis://127.0.0.1:{server.port}") as producer:
        await producer.limits.set("*", concurrency=count)  # all go to one host, whose limit must not delay them
        await producer.enqueue_many(url for _ in range(count))


def _work(port: str, jobs: int, warm_up: int, *, fetches: bool, metrics: bool) -> dict[str, float]:
    """A worker in a burst. Its CPU time is counted from the start of the last job of the warm-up. The hook that counts
    fetches would be a part of what an empty job costs.
    """
    started = 0
    began_cpu_s = 0.0

    async def count(_ctx: dict[Any, Any]) -> None:
        nonlocal started, began_cpu_s
        started += 1
        if started == warm_up:
            began_cpu_s = process_time()

    settings = Settings(redis_url=f"redis://127.0.0.1:{port}", allow_net=("127.0.0.1/32",), metrics=metrics)
    function = func(cast(WorkerCoroutine, count), name=EMPTY)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())
    redis = connect(settings.redis_url, redis_class=ArqRedis)
    described = worker_settings([function], settings=settings, on_job_start=count if fetches else None)
    worker = make_worker(described, redis, burst=True, handle_signals=False)
    tune_gc()  # as `fetchq worker` does
    worker.run()
    cpu_s = process_time() - began_cpu_s
    if worker.jobs_complete != warm_up + jobs:
        raise BenchFailure(f"{worker.jobs_complete} jobs ran of {warm_up + jobs}")
    return {"cpu_s": cpu_s}


if __name__ == "__main__":
    sys.exit(main())
