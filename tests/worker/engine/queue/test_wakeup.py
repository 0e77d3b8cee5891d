"""How soon an idle worker starts a job."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from arq import func
from arq.connections import ArqRedis
from redis.asyncio.connection import AbstractConnection, Connection
from tests.support.redis_server import RedisServer
from tests.support.running import running, wait_until
from tests.worker.engine.conftest import MakeWorker

from fetchq import Producer
from fetchq.contract.wire import deserialize, serialize
from fetchq.store.connection import connect
from fetchq.tasks import cancel_and_wait
from fetchq_worker.engine import Worker
from fetchq_worker.engine.queue.wakeup import WakeEvent

pytestmark = pytest.mark.asyncio


async def test_a_result_is_pushed_to_the_producer_that_waits_for_it(redis: ArqRedis, make_worker: MakeWorker) -> None:
    async def double(ctx: Any, number: int) -> int:
        return 2 * number

    wire = {"job_serializer": serialize, "job_deserializer": deserialize}
    worker = make_worker([func(double, name="double")], poll_delay=60, **wire)
    async with running(worker), Producer(redis) as producer:
        took: list[float] = []
        for number in range(10):
            started = time.perf_counter()
            job = await producer.enqueue_job("double", number)
            assert await job.value(timeout_s=5) == 2 * number
            took.append(time.perf_counter() - started)
    assert sorted(took)[5] < 0.1


async def test_a_deferred_job_starts_when_it_is_due_without_a_poll(redis: ArqRedis, make_worker: MakeWorker) -> None:
    ran = asyncio.Event()

    async def work(ctx: Any) -> None:
        ran.set()

    await redis.enqueue_job("work", _defer_by=0.3)
    enqueued = time.perf_counter()
    async with running(make_worker([func(work, name="work")], poll_delay=60)), asyncio.timeout(5):
        await ran.wait()
    assert 0.25 < time.perf_counter() - enqueued < 2


async def test_jobs_of_stock_producers_that_send_no_wake_are_found_by_the_poll(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    ran = asyncio.Event()

    async def work(ctx: Any) -> None:
        ran.set()

    async with running(make_worker([func(work, name="work")], poll_delay=0.1)), asyncio.timeout(5):
        await asyncio.sleep(0.05)
        await redis.enqueue_job("work")
        await ran.wait()


async def test_a_wake_token_that_a_full_worker_took_is_passed_on(redis: ArqRedis, make_worker: MakeWorker) -> None:
    release = asyncio.Event()

    async def work(ctx: Any) -> None:
        await release.wait()

    worker = make_worker([func(work, name="work")], max_jobs=1, poll_delay=60)
    async with running(worker):
        waker = worker._claims.waker
        while waker is None:
            await asyncio.sleep(0)
            waker = worker._claims.waker
        await redis.enqueue_job("work")
        await redis.rpush(worker.keys.wake, b"1")  # type: ignore[misc]
        await wait_until(lambda: worker.running_count == 1)
        waker.token_taken = True  # one more token, popped by the BLPOP that was still in progress
        await redis.enqueue_job("work")
        worker._wake_event.set()
        await wait_until(lambda: _length_is(redis, worker.keys.wake, 1))
        release.set()


async def test_a_blpop_always_has_a_timeout(
    redis: ArqRedis, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(ctx: Any) -> None: ...

    blocks: list[float] = []
    send: Any = Connection.send_command

    async def spy(self: Connection, *args: Any, **options: Any) -> Any:
        if args[0] == "BLPOP":
            blocks.append(args[-1])
        return await send(self, *args, **options)

    monkeypatch.setattr(AbstractConnection, "send_command", spy)
    await redis.enqueue_job("work", _defer_by=0.001)
    for poll_delay in (0, 0.00001, 60):
        seen = len(blocks)
        async with running(make_worker([func(work, name="work")], poll_delay=poll_delay)):
            await wait_until(lambda: len(blocks) > seen)  # noqa: B023 - it is waited for here
    assert all(0.1 < block <= 15 for block in blocks)


async def test_a_pool_of_few_connections_is_enough(redis_server: RedisServer, real_redis: ArqRedis) -> None:
    done: asyncio.Queue[None] = asyncio.Queue()

    async def work(ctx: Any) -> None:
        done.put_nowait(None)

    pool = connect(redis_server.url, redis_class=ArqRedis, max_connections=3)
    worker = Worker([func(work, name="work")], redis_pool=pool, handle_signals=False, poll_delay=0.02)
    async with running(worker), asyncio.timeout(10):
        for _ in range(50):
            await real_redis.enqueue_job("work")
            await done.get()


async def _length_is(redis: ArqRedis, key: str, length: int) -> bool:
    return bool(await redis.llen(key) == length)  # type: ignore[misc]


async def test_an_event_that_is_set_before_the_wait_ends_one_wait_only() -> None:
    event = WakeEvent()
    event.set()
    event.set()
    assert await event.wait(60) is True
    assert await event.wait(0.001) is False


async def test_an_event_can_be_waited_for_again_after_a_cancelled_wait() -> None:
    event = WakeEvent()
    waiting = asyncio.create_task(event.wait(60))
    await asyncio.sleep(0)
    await cancel_and_wait(waiting)
    event.set()
    assert await event.wait(60) is True
