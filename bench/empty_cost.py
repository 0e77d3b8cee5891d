"""`python -m bench.empty_cost [FOLDER]`: the CPU time of worker and Redis for one empty job.

CPU time is meaningful on a busy machine too, unlike elapsed time. On two idle cores, elapsed time above the larger of
the two is time in which they wait for each other. Each number is the minimum of the rounds, since disturbances only
add. With the FOLDER of another checkout, both take turns, and the last line is the change: the median over the pairs of
rounds.
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
from time import perf_counter, process_time, time
from typing import Any, Final, cast

import msgspec
import uvloop
from arq.connections import ArqRedis
from arq.typing import WorkerCoroutine
from arq.worker import func

from bench.testbed.failure import BenchFailure
from bench.testbed.processes import REPO, run, stop_on_signals
from bench.testbed.redis_server import RedisServer, redis_server
from fetchq.contract.job_ids import JobIds
from fetchq.contract.wire import encode_job
from fetchq.store.connection import connect
from fetchq.store.keys import Keys
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.gc_tuning import tune_gc
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.settings import Settings

JOBS: Final = 20_000
WARM_UP_JOBS: Final = 2_000
"""The first jobs are not counted: they pay for what is made once."""
ROUNDS: Final = 9
BATCH: Final = 1_000
ROUND_S: Final = 120.0
EMPTY: Final = "empty"
WORK: Final = "--work"


class Cost(msgspec.Struct, frozen=True):
    """Microseconds for a job: CPU time of the two processes, and elapsed time."""

    worker_us: float
    redis_us: float
    elapsed_us: float

    def ratios(self, other: Cost) -> tuple[float, float, float]:
        """The ratio to another cost, for each number."""
        return (
            self.worker_us / other.worker_us,
            self.redis_us / other.redis_us,
            self.elapsed_us / other.elapsed_us,
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.empty_cost", description="What one empty job costs.")
    parser.add_argument("folder", type=Path, nargs="?", help="another checkout, to be measured in turn with this one")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument(WORK, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work is not None:
        print(json.dumps(_work(given.work, given.jobs)))
        return 0
    checkouts = [REPO] if given.folder is None else [given.folder.resolve(), REPO]
    try:
        asyncio.run(_compare(checkouts, given.rounds, given.jobs))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    except BenchFailure as problem:
        print(f"empty_cost: {problem}", file=sys.stderr)
        return 1
    return 0


async def _compare(checkouts: Sequence[Path], rounds: int, jobs: int) -> None:
    stop_on_signals()
    costs: list[list[Cost]] = [[] for _ in checkouts]
    with tempfile.TemporaryDirectory(prefix="fetchq-bench-") as name:
        async with redis_server(Path(name)) as server:
            for _ in range(rounds):
                for checkout, its_costs in zip(checkouts, costs, strict=True):
                    its_costs.append(await _take(checkout, server, jobs, Path(name)))
    for checkout, taken in zip(checkouts, costs, strict=True):
        leasts = map(min, zip(*map(msgspec.structs.astuple, taken), strict=True))
        print("{:8.2f} us worker {:8.2f} us Redis {:8.2f} us elapsed".format(*leasts), f" a job, {checkout.name}")
    if len(costs) == 2:
        ratios = zip(*(after.ratios(before) for before, after in zip(*costs, strict=True)), strict=True)
        changes = (median(column) - 1 for column in ratios)
        print("{:+8.1%}    worker {:+8.1%}    Redis {:+8.1%}    elapsed".format(*changes))


async def _take(checkout: Path, server: RedisServer, jobs: int, folder: Path) -> Cost:
    """One round: a queue filled, and drained by a worker process with that checkout's code."""
    await server.empty()
    await fill(server, WARM_UP_JOBS + jobs)
    before = (await server.usage()).cpu_s
    command: list[str | Path] = [sys.executable, "-m", "bench.empty_cost", WORK, str(server.port), "--jobs", str(jobs)]
    path = f"{REPO}:{checkout / 'producer'}:{checkout / 'worker'}"
    answer = json.loads(await run("worker", command, folder, timeout_s=ROUND_S, env={"PYTHONPATH": path}))
    redis_s = (await server.usage()).cpu_s - before
    return Cost(answer["cpu_s"] / jobs * 1e6, redis_s / (WARM_UP_JOBS + jobs) * 1e6, answer["elapsed_s"] / jobs * 1e6)


async def fill(server: RedisServer, count: int) -> None:
    """Enqueues by the job contract alone, so that it is the same for every checkout."""
    keys, ids = Keys(), JobIds()
    payload = encode_job(EMPTY, (), {}, 0)
    for start in range(0, count, BATCH):
        batch = ids.new_ids(min(BATCH, count - start))
        await server.client.mset({keys.job + job_id: payload for job_id in batch})
        await server.client.zadd(keys.pending, dict.fromkeys(batch, int(time() * 1000)))


def _work(port: str, jobs: int) -> dict[str, float]:
    """The worker, as in `adapters/fetchq_peer.py`, in a burst and timed."""
    started = 0
    began_s = began_cpu_s = 0.0

    async def empty(_ctx: dict[Any, Any]) -> None:
        nonlocal started, began_s, began_cpu_s
        started += 1
        if started == WARM_UP_JOBS:
            began_s, began_cpu_s = perf_counter(), process_time()

    settings = Settings(redis_url=f"redis://127.0.0.1:{port}")
    function = func(cast(WorkerCoroutine, empty), name=EMPTY)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())
    redis = connect(settings.redis_url, redis_class=ArqRedis)
    worker = make_worker(worker_settings([function], settings=settings), redis, burst=True, handle_signals=False)
    tune_gc()  # as `fetchq worker` does
    worker.run()
    cpu_s, elapsed_s = process_time() - began_cpu_s, perf_counter() - began_s
    if worker.jobs_complete != WARM_UP_JOBS + jobs:
        raise BenchFailure(f"{worker.jobs_complete} jobs ran of {WARM_UP_JOBS + jobs}")
    return {"cpu_s": cpu_s, "elapsed_s": elapsed_s}


if __name__ == "__main__":
    sys.exit(main())
