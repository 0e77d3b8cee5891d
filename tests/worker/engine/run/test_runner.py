"""Single runs: retries, aborts, timeouts, hooks."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from unittest.mock import AsyncMock

import pytest
from arq import func
from arq.connections import ArqRedis
from arq.worker import Retry
from tests.support.running import running, wait_until
from tests.worker.engine.conftest import MakeWorker

from fetchq.store.records import LeaseRecord
from fetchq_worker.engine import Snooze
from fetchq_worker.engine.run.crash_policy import CountsOwnAttempts

pytestmark = pytest.mark.asyncio


async def test_a_retry_runs_again_after_its_delay_or_at_once_without_one(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    runs: list[tuple[str, int, float]] = []

    async def work(ctx: Any, defer_s: float | None) -> None:
        runs.append((ctx["job_id"], ctx["job_try"], time.perf_counter()))
        if ctx["job_try"] == 1:
            raise Retry(defer_s)

    await redis.enqueue_job("work", None, _job_id="at once")
    await redis.enqueue_job("work", 0.4, _job_id="later")
    worker = make_worker([func(work, name="work")], burst=True, poll_delay=60)
    async with asyncio.timeout(10):
        await worker.main()
    assert [(job_id, tries) for job_id, tries, _ in runs if job_id == "at once"] == [("at once", 1), ("at once", 2)]
    first, second = [at for job_id, _, at in runs if job_id == "later"]
    assert 0.39 < second - first < 2
    assert (worker.jobs_complete, worker.jobs_retried) == (2, 2)


async def test_a_snooze_is_not_counted_as_a_try(redis: ArqRedis, make_worker: MakeWorker) -> None:
    tries: list[int] = []

    async def work(ctx: Any) -> str:
        tries.append(ctx["job_try"])
        if len(tries) < 20:
            raise Snooze(0.001 if len(tries) % 2 else 0)
        return "done"

    job = await redis.enqueue_job("work")
    assert job is not None
    await make_worker([func(work, name="work", max_tries=1)], burst=True).main()
    assert await job.result(timeout=1) == "done"
    assert tries == [1] * 20


async def test_a_run_sets_the_ttl_of_its_result(redis: ArqRedis, make_worker: MakeWorker) -> None:
    async def work(ctx: Any, ttl_s: Any) -> str:
        ctx["fetchq"].result_ttl_s = ttl_s
        return "done"

    for job_id, ttl_s in [("short", 5), ("none", 0), ("negative", -1), ("huge", 1e300), ("nonsense", "x")]:
        await redis.enqueue_job("work", ttl_s, _job_id=job_id)
    await make_worker([func(work, name="work")], burst=True, keep_result_forever=True).main()
    left = {key.decode()[11:]: await redis.pttl(key) for key in await redis.keys("arq:result:*")}
    assert left.keys() == {"short", "huge", "nonsense"}
    assert 4000 < left["short"] <= 5000
    assert left["huge"] > 1 << 51
    assert left["nonsense"] == -1


async def test_a_run_knows_its_fencing_token(redis: ArqRedis, make_worker: MakeWorker) -> None:
    tokens: list[str] = []

    async def work(ctx: Any) -> None:
        tokens.append(ctx["fetchq"].lease_token)
        record = LeaseRecord.parse(await redis.hget("fetchq:leases:arq:queue", ctx["job_id"]))  # type: ignore[misc]
        assert record is not None
        assert record.token.decode() == tokens[-1]
        if len(tokens) < 3:
            raise Retry

    await redis.enqueue_job("work")
    worker = make_worker([func(work, name="work")], burst=True)
    await worker.main()
    assert worker.jobs_failed == 0
    assert len(set(tokens)) == 3


async def test_a_stock_abort_cancels_a_running_job(redis: ArqRedis, make_worker: MakeWorker) -> None:
    started = asyncio.Event()

    async def work(ctx: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    job = await redis.enqueue_job("work")
    assert job is not None
    worker = make_worker([func(work, name="work")], allow_abort_jobs=True)
    async with running(worker), asyncio.timeout(10):
        await started.wait()
        assert await job.abort(timeout=5, poll_delay=0.01) is True
        assert worker.jobs_failed == 1
        assert await redis.zcard("arq:queue") == 0
        assert await redis.zcard("arq:abort") == 0


async def test_a_stock_abort_ends_a_job_that_waits_behind_many_others(redis: ArqRedis, make_worker: MakeWorker) -> None:
    release = asyncio.Event()
    ran: set[str] = set()

    async def work(ctx: Any) -> None:
        ran.add(ctx["job_id"])
        await release.wait()

    for number in range(50):
        await redis.enqueue_job("work", _job_id=f"{number}")
    job = await redis.enqueue_job("work", _job_id="unwanted")
    assert job is not None
    worker = make_worker([func(work, name="work")], allow_abort_jobs=True, max_jobs=5)
    async with running(worker), asyncio.timeout(10):
        await wait_until(lambda: len(ran) == 5)
        aborting = asyncio.create_task(job.abort(timeout=5, poll_delay=0.01))
        await asyncio.sleep(0.1)
        release.set()
        assert await aborting is True
    assert "unwanted" not in ran


async def test_an_abort_during_the_crash_check_keeps_the_job_from_running(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    judging, judged = asyncio.Event(), asyncio.Event()
    hooks = AsyncMock()  # a user's coroutines

    async def work(ctx: Any) -> None:
        raise AssertionError("it ran")

    async def judge(ctx: Any) -> None:
        judging.set()
        await judged.wait()

    function = CountsOwnAttempts(**vars(func(work, name="work")), unchecked_starts=1, finish_if_crashed=judge)
    job = await redis.enqueue_job("work", _job_try=2)
    assert job is not None
    worker = make_worker([function], allow_abort_jobs=True, on_job_start=hooks, on_job_end=hooks)
    async with running(worker), asyncio.timeout(10):
        await judging.wait()
        aborting = asyncio.create_task(job.abort(timeout=5, poll_delay=0.01))
        await wait_until(lambda: all(lease.aborted for lease in worker.leases))
        judged.set()
        assert await aborting is True
    assert hooks.mock_calls == []


async def test_a_hook_that_is_assigned_to_a_worker_later_is_called_as_with_arq(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    started: list[str] = []

    async def work(ctx: Any) -> None:
        started.append("work")

    async def hook(ctx: Any) -> None:
        started.append("hook")

    await redis.enqueue_job("work")
    worker = make_worker([func(work, name="work")], burst=True)
    worker.on_job_start = hook
    await worker.main()
    assert started == ["hook", "work"]


async def test_a_job_that_takes_too_long_fails_with_a_timeout(redis: ArqRedis, make_worker: MakeWorker) -> None:
    async def work(ctx: Any, for_s: float) -> str:
        await asyncio.sleep(for_s)
        return "done"

    slow, quick = await redis.enqueue_job("work", 60), await redis.enqueue_job("work", 0)
    own = await redis.enqueue_job("patient", 0.3)
    assert slow is not None
    assert quick is not None
    assert own is not None
    functions = [func(work, name="work"), func(work, name="patient", timeout=60)]
    await make_worker(functions, burst=True, job_timeout=0.1).main()
    with pytest.raises(TimeoutError):
        await slow.result(timeout=1)
    assert await quick.result(timeout=1) == "done"
    assert await own.result(timeout=1) == "done"
