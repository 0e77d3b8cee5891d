"""Garbage in the keys of a running worker: it continues, no job is lost, and each bad job is recorded once."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from arq.connections import ArqRedis
from arq.worker import func
from tests.support.running import running, wait_until

from fetchq import Producer
from fetchq.contract import wire
from fetchq.errors import JobFailed
from fetchq.store.connection import connect
from fetchq_worker.engine import Worker

pytestmark = pytest.mark.asyncio

JOBS = 200


@pytest_asyncio.fixture(params=["embedded", "real"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[ArqRedis]:
    if request.param == "embedded":
        client: ArqRedis = request.getfixturevalue("embedded").client()
    else:
        client = connect(request.getfixturevalue("redis_server").url, redis_class=ArqRedis)
    yield client
    await client.aclose()


def worker_on(redis: ArqRedis, *functions: Any) -> Worker:
    return Worker(
        [func(function, name="work") for function in functions],
        redis_pool=redis,
        job_serializer=wire.serialize,
        job_deserializer=wire.deserialize,
        handle_signals=False,
        poll_delay=0.05,
        max_jobs=20,
        renew_s=0.1,
        lease_s=2,
        allow_abort_jobs=True,
    )


async def spoil(redis: Any, key: str, rng: random.Random) -> str:
    """Writes garbage to a key and returns a description of it."""
    kind = rng.choice(("bytes", "long", "list", "hash", "set", "zset"))
    await redis.delete(key)
    match kind:
        case "bytes":
            await redis.set(key, rng.randbytes(rng.randint(0, 40)))
        case "long":
            await redis.set(key, rng.randbytes(100_000))
        case "list":
            await redis.rpush(key, rng.randbytes(9))
        case "hash":
            await redis.hset(key, rng.randbytes(9), rng.randbytes(9))
        case "set":
            await redis.sadd(key, rng.randbytes(9))
        case "zset":
            await redis.zadd(key, {rng.randbytes(9): rng.uniform(-1e300, 1e300)})
    return kind


@pytest.mark.parametrize("seed", range(4))
async def test_garbage_in_keys_of_some_jobs_ends_each_of_them_once_and_no_others(redis: ArqRedis, seed: int) -> None:
    rng = random.Random(seed)
    runs: Counter[str] = Counter()

    async def work(ctx: dict[str, Any], number: int) -> int:
        runs[ctx["job_id"]] += 1
        return number

    async with Producer(redis) as producer:
        keys = producer.keys
        jobs = [await producer.enqueue_job("work", number) for number in range(JOBS)]
        unrunnable: set[str] = set()
        for job in jobs[: JOBS // 2]:
            match rng.choice(("payload", "no payload", "tries", "attempts", "in progress", "lease", "abort")):
                case "payload":
                    await spoil(redis, keys.job + job.id, rng)
                    unrunnable.add(job.id)
                case "no payload":
                    await redis.delete(keys.job + job.id)
                    unrunnable.add(job.id)
                case "tries":
                    await spoil(redis, keys.retry + job.id, rng)
                case "attempts":
                    await spoil(redis, keys.attempts + job.id, rng)
                case "in progress":
                    while await spoil(redis, keys.in_progress + job.id, rng) in ("bytes", "long"):
                        pass  # a string there is another worker's mark: see the next test
                case "lease":
                    await redis.hset(keys.leases, job.id, rng.randbytes(30))  # type: ignore[misc,arg-type]  # bytes do as well
                    await redis.zadd(keys.lease_ends, {job.id: rng.uniform(0, 1e12)})
                case "abort":
                    await redis.zadd(keys.abort, {rng.randbytes(12): rng.uniform(-1e300, 1e300)})
        worker = worker_on(redis, work)
        async with running(worker):
            await wait_until(lambda: _is_empty(redis, keys.pending), timeout_s=30)
            values: list[int | str] = []
            for job in jobs:
                try:
                    values.append(await job.value(timeout_s=10))
                except JobFailed as problem:
                    values.append(problem.type)
        for number, (job, value) in enumerate(zip(jobs, values, strict=True)):
            if job.id in unrunnable:
                assert value in ("DeserializationError", "JobExecutionFailed"), value
                assert runs[job.id] == 0
            else:
                assert value == number
                assert runs[job.id] == 1
        assert worker.jobs_failed == len(unrunnable)


async def test_a_foreign_in_progress_key_holds_back_only_its_own_job(redis: ArqRedis) -> None:
    async def work(ctx: dict[str, Any]) -> str:
        return "done"

    async with Producer(redis) as producer:
        held, free = [await producer.enqueue_job("work") for _ in range(2)]
        await redis.set(producer.keys.in_progress + held.id, b"\x00garbage")
        async with running(worker_on(redis, work)):
            assert await free.value(timeout_s=10) == "done"
            assert await redis.zscore(producer.keys.pending, held.id) is not None
            await redis.delete(producer.keys.in_progress + held.id)
            assert await held.value(timeout_s=10) == "done"


@pytest.mark.parametrize(
    "name", ["pending", "leases", "lease_ends", "abort", "wake", "maintenance_cursor", "workers", "dead"]
)
async def test_garbage_in_a_key_of_the_queue_stops_the_worker_only_until_it_is_repaired(
    redis: ArqRedis, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """All of the queue's keys are needed to finish a job once: without one, jobs wait."""
    let_go = asyncio.Event()
    runs: Counter[str] = Counter()

    async def work(ctx: dict[str, Any]) -> str:
        runs[ctx["job_id"]] += 1
        await let_go.wait()
        return "done"

    rng = random.Random(name)
    caplog.set_level(logging.WARNING)
    async with Producer(redis) as producer:
        key = getattr(producer.keys, name)
        jobs = [await producer.enqueue_job("work") for _ in range(50)]
        worker = worker_on(redis, work)
        async with running(worker):
            await wait_until(lambda: runs.total() == 20)
            kept = await redis.dump(key) if await redis.exists(key) else None
            while await spoil(redis, key, rng) == {"leases": "hash", "wake": "list"}.get(name, "zset"):
                pass
            let_go.set()
            await asyncio.sleep(0.5)
            assert worker.main_task is not None
            assert not worker.main_task.done()
            if kept is None:
                await redis.delete(key)
            else:
                await redis.restore(key, 0, kept, replace=True)
            assert [await job.value(timeout_s=20) for job in jobs] == ["done"] * 50
    events = Counter(record.message.split()[0] for record in caplog.records)
    assert events["redis.unavailable"] + events["redis.refused"] <= 1
    assert events["commit.delayed"] <= 1
    assert runs.total() >= 50


async def _is_empty(redis: Any, key: str) -> bool:
    return bool(await redis.zcard(key) == 0)
