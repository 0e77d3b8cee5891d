"""A worker with a namespace: everything arq's API does stays within it."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from arq import cron, func
from arq.connections import ArqRedis
from arq.jobs import Job, JobStatus
from tests.support.running import running, wait_until

from fetchq import Producer
from fetchq.contract.wire import deserialize, serialize

from .conftest import MakeWorker

pytestmark = pytest.mark.asyncio

NAMESPACE = "{q}:"
WIRE: dict[str, Any] = {"job_serializer": serialize, "job_deserializer": deserialize}


async def _assert_nothing_outside(redis: ArqRedis) -> None:
    keys = await redis.keys("*")
    assert keys
    assert [key for key in keys if not key.startswith(NAMESPACE.encode())] == []


async def test_jobs_of_a_producer_run_and_every_key_is_in_the_namespace(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    async def double(ctx: Any, number: int) -> int:
        return 2 * number

    async with Producer(redis, namespace=NAMESPACE) as producer:
        job = await producer.enqueue_job("double", 21)
        worker = make_worker([func(double, name="double")], namespace=NAMESPACE, **WIRE)
        async with running(worker):
            assert await job.value(timeout_s=5) == 42
            await wait_until(lambda: _exists(redis, worker.health_check_key))
            await _assert_nothing_outside(redis)
        await _assert_nothing_outside(redis)


async def test_a_coroutine_enqueues_and_reads_jobs_by_its_redis(redis: ArqRedis, make_worker: MakeWorker) -> None:
    seen: list[Any] = []
    received = asyncio.Event()

    async def first(ctx: Any) -> str:
        client: ArqRedis = ctx["redis"]
        later = await client.enqueue_job("second", 7, _job_id="later", _defer_by=timedelta(hours=1))
        assert later is not None
        assert await client.enqueue_job("second", 7, _job_id="later") is None
        seen.append(await later.status())
        seen.append({job.job_id for job in await client.queued_jobs()})
        other = await client.enqueue_job("second", 7, _job_id="other", _queue_name="other")
        assert other is not None
        seen.append([job.job_id for job in await client.queued_jobs(queue_name="other")])
        now = await client.enqueue_job("second", 21)
        assert now is not None
        seen.append(await now.result(timeout=5, poll_delay=0.01))
        info = await Job(now.job_id, client, _deserializer=deserialize).info()
        assert info is not None
        seen.append(list(info.args))
        seen.append({result.function for result in await client.all_job_results()})
        await client.set("a-users-own-key", "arq:job:as-a-value")
        received.set()
        return "done"

    async def second(ctx: Any, number: int) -> int:
        return 2 * number

    worker = make_worker([func(first, name="first"), func(second, name="second")], namespace=NAMESPACE, **WIRE)
    assert await worker.pool.enqueue_job("first", _job_id="first") is not None
    async with running(worker), asyncio.timeout(10):
        await received.wait()
    assert seen == [JobStatus.deferred, {"first", "later"}, ["other"], 42, [21], {"second"}]
    assert await redis.get("a-users-own-key") == b"arq:job:as-a-value"
    await redis.delete("a-users-own-key")
    await _assert_nothing_outside(redis)


@pytest.mark.parametrize("namespace", ["a", "arq", "jobs"])
async def test_a_namespace_may_begin_like_arqs_names_or_a_queue(
    redis: ArqRedis, make_worker: MakeWorker, namespace: str
) -> None:
    async def first(ctx: Any) -> int:
        client: ArqRedis = ctx["redis"]
        now = await client.enqueue_job("second")
        assert now is not None
        other = await client.enqueue_job("second", _job_id="other", _queue_name="jobs-of-others")
        assert other is not None
        assert [job.job_id for job in await client.queued_jobs(queue_name="jobs-of-others")] == ["other"]
        return int(await now.result(timeout=5, poll_delay=0.01))

    async def second(ctx: Any) -> int:
        return 42

    async with Producer(redis, namespace=namespace) as producer:
        job = await producer.enqueue_job("first")
        functions = [func(first, name="first"), func(second, name="second")]
        async with running(make_worker(functions, namespace=namespace, **WIRE)):
            assert await job.value(timeout_s=10) == 42
    assert await redis.zcard(f"{namespace}jobs-of-others") == 1
    assert await redis.exists("arq:queue", "arq:job:other", "jobs-of-others") == 0


async def test_a_job_is_aborted_within_the_namespace(redis: ArqRedis, make_worker: MakeWorker) -> None:
    started = asyncio.Event()

    async def endless(ctx: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    worker = make_worker([func(endless, name="endless")], namespace=NAMESPACE, allow_abort_jobs=True)
    client = worker.pool
    job = await client.enqueue_job("endless")
    assert job is not None
    async with running(worker), asyncio.timeout(10):
        await started.wait()
        assert await Job(job.job_id, client).status() is JobStatus.in_progress
        assert await Job(job.job_id, client).abort(timeout=5, poll_delay=0.01) is True
        await _assert_nothing_outside(redis)


async def test_cron_jobs_run_within_the_namespace(redis: ArqRedis, make_worker: MakeWorker) -> None:
    ran = asyncio.Event()

    async def tick(ctx: Any) -> None:
        ran.set()

    soon = datetime.now() + timedelta(seconds=2)
    jobs = [cron(tick, name="tick", second={soon.second, (soon.second + 1) % 60})]
    async with running(make_worker([], cron_jobs=jobs, namespace=NAMESPACE)), asyncio.timeout(10):
        await ran.wait()
        await _assert_nothing_outside(redis)
    await _assert_nothing_outside(redis)


async def test_a_check_of_failed_jobs_reads_the_results_of_the_namespace(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    async def fail(ctx: Any) -> None:
        raise ValueError("on purpose")

    worker = make_worker([func(fail, name="fail")], namespace=NAMESPACE, burst=True)
    await worker.pool.enqueue_job("fail")
    await redis.zadd("arq:queue", {"of-another-queue": 1})
    with pytest.raises(Exception, match="1 job failed ValueError"):
        await worker.run_check()
    assert await redis.zrange("arq:queue", 0, -1) == [b"of-another-queue"]


async def _exists(redis: ArqRedis, key: str) -> bool:
    return bool(await redis.exists(key))
