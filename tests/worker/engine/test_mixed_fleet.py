"""Stock arq workers and this engine's on one queue, with stock producers and fetchq's."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import arq.worker
import pytest
from arq import func
from arq.connections import ArqRedis
from arq.jobs import JobStatus
from arq.worker import Retry
from tests.support.running import running, wait_until

from fetchq.tasks import cancel_and_wait

from .conftest import MakeWorker, NewClient

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.parametrize("new_client", ["real"], indirect=True),  # a stock worker asks for INFO, and dies without
    pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning"),  # arq's, under redis-py 5
]


def stock_worker(redis: ArqRedis, functions: list[Any], **options: Any) -> arq.worker.Worker:
    return arq.worker.Worker(functions, redis_pool=redis, handle_signals=False, poll_delay=0.01, **options)


async def test_a_mixed_fleet_runs_every_job_exactly_once(
    redis: ArqRedis, new_client: NewClient, make_worker: MakeWorker
) -> None:
    runs: Counter[str] = Counter()
    by: Counter[str] = Counter()

    async def work(ctx: Any) -> str:
        by["ours" if "fetchq" in ctx else "stock"] += 1
        if ctx["job_try"] == 1 and int(ctx["job_id"]) % 10 == 0:
            raise Retry(0.05)
        runs[ctx["job_id"]] += 1
        await asyncio.sleep(0.005)
        return "done"

    jobs = [await redis.enqueue_job("work", _job_id=f"{n}") for n in range(400)]
    functions = [func(work, name="work")]
    stock = [stock_worker(new_client(), functions, max_jobs=10) for _ in range(2)]
    ours = [make_worker(functions, max_jobs=3) for _ in range(2)]
    mains = [asyncio.create_task(worker.main()) for worker in stock]
    async with running(*ours):
        await wait_until(lambda: len(runs) == 400, timeout_s=30)
        assert [await job.result(timeout=10, poll_delay=0.01) for job in jobs if job] == ["done"] * 400
    for main in mains:
        await cancel_and_wait(main)
    for worker in stock:
        await worker.close()
    assert set(runs.values()) == {1}
    assert by["ours"], "the engine took part"
    assert by["stock"], "and so did arq"
    assert await redis.zcard("arq:queue") == 0


async def test_a_stock_worker_does_not_take_a_job_that_runs_here(
    redis: ArqRedis, new_client: NewClient, make_worker: MakeWorker
) -> None:
    runs: list[str] = []
    release = asyncio.Event()

    async def work(ctx: Any) -> str:
        runs.append("ours" if "fetchq" in ctx else "stock")
        await release.wait()
        return "done"

    job = await redis.enqueue_job("work")
    assert job is not None
    async with running(make_worker([func(work, name="work")])):
        await wait_until(lambda: len(runs) == 1)
        stock = stock_worker(new_client(), [func(work, name="work")])
        await stock.start_jobs([job.job_id.encode()])
        main = asyncio.create_task(stock.main())
        await asyncio.sleep(0.1)
        assert await job.status() is JobStatus.in_progress
        release.set()
        assert await job.result(timeout=5, poll_delay=0.01) == "done"
        await cancel_and_wait(main)
        await stock.close()
    assert runs == ["ours"]


async def test_a_job_that_a_stock_worker_runs_is_not_claimed(
    redis: ArqRedis, new_client: NewClient, make_worker: MakeWorker
) -> None:
    runs: list[str] = []
    release = asyncio.Event()

    async def work(ctx: Any) -> str:
        runs.append("ours" if "fetchq" in ctx else "stock")
        await release.wait()
        return "done"

    job = await redis.enqueue_job("work")
    behind = await redis.enqueue_job("work")
    assert job is not None
    assert behind is not None
    stock = stock_worker(new_client(), [func(work, name="work")])
    await stock.start_jobs([job.job_id.encode()])
    await wait_until(lambda: runs == ["stock"])
    async with running(make_worker([func(work, name="work")])):
        await wait_until(lambda: runs == ["stock", "ours"])
        await asyncio.sleep(0.2)
        release.set()
        assert await job.result(timeout=5, poll_delay=0.01) == "done"
        assert await behind.result(timeout=5, poll_delay=0.01) == "done"
    await stock.close()
    assert runs == ["stock", "ours"]
