"""`python -m bench.enqueue_cost [FOLDER]`: what it costs to put one fetch on the queue: CPU time of producer and Redis.

Three ways: one caller that awaits each job before the next, 64 callers of one producer that do the same, and
`enqueue_many`. CPU time is meaningful on a busy machine too, unlike elapsed time and p50, the median latency of one
call. Each number is the minimum of the rounds, since disturbances only add. With the FOLDER of another checkout, both
take turns, and the change is the median over the pairs of rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Final

import msgspec
import uvloop

from bench.testbed.failure import BenchFailure
from bench.testbed.processes import REPO, run, stop_on_signals
from bench.testbed.redis_server import RedisServer, redis_server
from fetchq import Producer
from fetchq.client.limits import MAX_CONCURRENCY

WAYS: Final = {"one caller": 1, "64 callers": 64, "enqueue_many": 0}
"""How many callers share the producer; 0: `enqueue_many`."""
JOBS: Final = 10_000
WARM_UP_JOBS: Final = 500
ROUNDS: Final = 9
ROUND_S: Final = 120.0
URL: Final = "https://example.org/"
ENQUEUE: Final = "--enqueue"


class Cost(msgspec.Struct, frozen=True):
    """Microseconds for a job: CPU time of the two processes, elapsed time, and the median time of one call."""

    producer_us: float
    redis_us: float
    elapsed_us: float
    p50_us: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.enqueue_cost", description="What one enqueue costs.")
    parser.add_argument("folder", type=Path, nargs="?", help="another checkout, to be measured in turn with this one")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument(ENQUEUE, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.enqueue is not None:
        port, callers = given.enqueue
        print(json.dumps(uvloop.run(_enqueue(port, int(callers), given.jobs))))
        return 0
    checkouts = [REPO] if given.folder is None else [given.folder.resolve(), REPO]
    try:
        asyncio.run(_compare(checkouts, given.rounds, given.jobs))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    except BenchFailure as problem:
        print(f"enqueue_cost: {problem}", file=sys.stderr)
        return 1
    return 0


async def _compare(checkouts: Sequence[Path], rounds: int, jobs: int) -> None:
    stop_on_signals()
    costs: dict[tuple[str, Path], list[Cost]] = {(way, checkout): [] for way in WAYS for checkout in checkouts}
    with tempfile.TemporaryDirectory(prefix="fetchq-bench-") as name:
        async with redis_server(Path(name)) as server:
            for _ in range(rounds):
                for (way, checkout), taken in costs.items():
                    taken.append(await _take(checkout, server, WAYS[way], jobs, Path(name)))
    for (way, checkout), taken in costs.items():
        least = Cost(*map(min, zip(*map(msgspec.structs.astuple, taken), strict=True)))
        print(
            f"{way:14}{least.producer_us:8.2f} us producer{least.redis_us:8.2f} us Redis"
            f"{1e6 / least.elapsed_us:10,.0f} /s{least.p50_us:10.1f} us p50  {checkout.name}"
        )
    if len(checkouts) == 2:
        for way in WAYS:
            before, after = (costs[way, checkout] for checkout in checkouts)
            changes = " ".join(
                f"{median(getattr(a, name) / getattr(b, name) for a, b in zip(after, before, strict=True)):8.3f} {name}"
                for name in Cost.__struct_fields__
            )
            print(f"{way:14}{changes}")


async def _take(checkout: Path, server: RedisServer, callers: int, jobs: int, folder: Path) -> Cost:
    """One round: a producer process with that checkout's code fills an empty queue."""
    await server.empty()
    command: list[str | Path] = [
        sys.executable, "-m", "bench.enqueue_cost", ENQUEUE, str(server.port), str(callers), "--jobs", str(jobs)
    ]  # fmt: skip
    path = f"{REPO}:{checkout / 'producer'}"
    before = (await server.usage()).cpu_s
    answer = json.loads(await run("producer", command, folder, timeout_s=ROUND_S, env={"PYTHONPATH": path}))
    redis_s = (await server.usage()).cpu_s - before
    queued = await server.client.zcard("arq:queue")
    if queued != WARM_UP_JOBS + jobs:
        raise BenchFailure(f"{queued} jobs are on the queue, not {WARM_UP_JOBS + jobs}")
    return Cost(
        answer["cpu_s"] / jobs * 1e6,
        redis_s / (WARM_UP_JOBS + jobs) * 1e6,
        answer["elapsed_s"] / jobs * 1e6,
        answer["p50_s"] * 1e6,
    )


async def _enqueue(port: str, callers: int, jobs: int) -> dict[str, float]:
    """The producer. Its host has no limit, since a limit decides in which queue a job waits."""
    async with Producer.from_url(f"redis://127.0.0.1:{port}") as producer:
        await producer.limits.set("*", concurrency=MAX_CONCURRENCY)
        await _run(producer, callers, WARM_UP_JOBS)
        began_s, began_cpu_s = perf_counter(), process_time()
        latencies_s = await _run(producer, callers, jobs)
        cpu_s, elapsed_s = process_time() - began_cpu_s, perf_counter() - began_s
    return {"cpu_s": cpu_s, "elapsed_s": elapsed_s, "p50_s": median(latencies_s)}


async def _run(producer: Producer, callers: int, jobs: int) -> list[float]:
    """Enqueues so many jobs. Returns the time that each call took."""
    latencies_s: list[float] = []
    if not callers:
        began_s = perf_counter()
        await producer.enqueue_many(URL for _ in range(jobs))
        return [perf_counter() - began_s]
    numbers = iter(range(jobs))

    async def call() -> None:
        for _ in numbers:
            began_s = perf_counter()
            await producer.enqueue(URL)
            latencies_s.append(perf_counter() - began_s)

    await asyncio.gather(*(call() for _ in range(callers)))
    return latencies_s


if __name__ == "__main__":
    sys.exit(main())
