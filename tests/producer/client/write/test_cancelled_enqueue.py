"""What a cancelled `enqueue_many` leaves behind, and what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from fetchq import FetchJob, Producer
from fetchq.client.write import batch

URL = "https://example.org/"


@pytest.mark.asyncio
async def test_a_cancelled_enqueue_many_leaves_no_task(producer: Producer) -> None:
    reached = asyncio.Event()

    async def requests() -> AsyncIterator[str]:
        for i in range(1000):
            yield f"http://h/{i}"
        reached.set()
        await asyncio.Event().wait()

    work = asyncio.create_task(producer.enqueue_many(requests()))
    await reached.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert asyncio.all_tasks() == {asyncio.current_task()}


class SlowScripts(Redis):
    """A client that reports when a script has replied, and returns the reply when `gate` opens."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(connection_pool=redis.connection_pool)
        self.gate = asyncio.Event()
        self.replied = asyncio.Event()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        reply = await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py 5
        if args[0] in ("EVALSHA", "EVAL"):
            self.replied.set()
            await self.gate.wait()
        return reply


@pytest.mark.asyncio
@pytest.mark.parametrize("steps", [0, 1, 2, 5, 20])
async def test_a_cancelled_enqueue_many_reports_the_jobs_of_the_batch_under_way(
    redis: Redis, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "CANCEL_GRACE_S", 60)
    slow = SlowScripts(redis)
    async with Producer(slow) as producer:
        jobs: list[FetchJob] = []
        work = asyncio.create_task(producer.enqueue_many([URL] * 10, enqueued=jobs))
        async with asyncio.timeout(10):
            await slow.replied.wait()
        work.cancel()
        for _ in range(steps):
            await asyncio.sleep(0)
        slow.gate.set()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await work
        assert len(cancelled.value.enqueued) == await redis.zcard("arq:queue") == 10  # type: ignore[attr-defined]
        assert cancelled.value.enqueued == tuple(jobs)  # type: ignore[attr-defined]
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_a_reply_that_comes_as_the_wait_after_a_cancellation_ends_is_read(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "CANCEL_GRACE_S", 0)
    slow = SlowScripts(redis)
    async with Producer(slow) as producer:
        work = asyncio.create_task(producer.enqueue_many([URL] * 10))
        async with asyncio.timeout(10):
            await slow.replied.wait()
        work.cancel()
        slow.gate.set()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await work
        assert len(cancelled.value.enqueued) == 10  # type: ignore[attr-defined]


@pytest.mark.asyncio
@pytest.mark.parametrize("steps", range(0, 15, 2))
async def test_a_list_given_to_enqueue_many_has_the_jobs_where_the_exception_is_lost(redis: Redis, steps: int) -> None:
    async with Producer(redis) as producer:
        jobs: list[FetchJob] = []
        work = asyncio.create_task(producer.enqueue_many([URL] * 10, enqueued=jobs))
        for _ in range(steps):
            await asyncio.sleep(0)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        assert {job.id.encode() for job in jobs} == set(await redis.zrange("arq:queue", 0, -1))
        again = await producer.enqueue_many([URL], enqueued=jobs)
        assert jobs[-1:] == again


@pytest.mark.asyncio
async def test_a_second_cancellation_ends_the_wait_for_the_batch_under_way(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "CANCEL_GRACE_S", 3600)
    slow = SlowScripts(redis)
    async with Producer(slow) as producer:
        work = asyncio.create_task(producer.enqueue_many([URL] * 10))
        async with asyncio.timeout(10):
            await slow.replied.wait()
        for _ in range(2):
            work.cancel()
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            with pytest.raises(asyncio.CancelledError):
                await work
        assert asyncio.all_tasks() == {asyncio.current_task()}
