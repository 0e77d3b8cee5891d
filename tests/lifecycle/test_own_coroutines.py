"""Jobs of users' own coroutines under limits, lanes and expiry, run by a real worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from arq import Retry
from arq.connections import ArqRedis
from arq.worker import func
from tests.lifecycle.conftest import NewClient
from tests.support.running import running, wait_until

from fetchq import JobFailed, Producer
from fetchq.contract import wire
from fetchq_worker.engine.worker import Worker
from fetchq_worker.politeness.gate import FetchGate

SOON_S = 20

pytestmark = pytest.mark.asyncio


class Work:
    """A coroutine that holds its slot until it is released."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.done: list[int] = []
        self.gate = asyncio.Event()

    async def send(self, number: int) -> int:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
            await asyncio.sleep(0.01)
        finally:
            self.running -= 1
        self.done.append(number)
        return number

    def function(self) -> Callable[..., Any]:
        async def send(ctx: dict[Any, Any], number: int) -> int:
            return await self.send(number)

        return send


def worker_of(client: ArqRedis, function: Callable[..., Any], **options: Any) -> Worker:
    return Worker(
        functions=[func(function, name=function.__name__)],
        redis_pool=client,
        handle_signals=False,
        **{
            "job_serializer": wire.serialize,
            "job_deserializer": wire.deserialize,
            "poll_delay": 0.05,
            "max_jobs": 10,
            **options,
        },
    )


@pytest.mark.parametrize("gate", [FetchGate, lambda: None], ids=["fetch gate", "no gate"])
async def test_no_more_jobs_of_a_limit_key_run_at_a_time_than_it_allows(
    redis: ArqRedis, new_client: NewClient, gate: Callable[[], FetchGate | None]
) -> None:
    work = Work()
    async with Producer(redis) as producer:
        await producer.limits.set("key:mail", concurrency=2)
        jobs = [await producer.enqueue_job("send", n, _limit_key="mail") for n in range(8)]
        free = [await producer.enqueue_job("send", 100 + n) for n in range(3)]
        async with running(worker_of(new_client(), work.function(), gate=gate())):
            await wait_until(lambda: work.running == 5, SOON_S)
            work.gate.set()
            await asyncio.gather(*(job.value(timeout_s=SOON_S) for job in jobs + free))
        assert work.most == 5, "two of the limit key, and three without one"
        assert sorted(work.done) == [*range(8), 100, 101, 102]
        assert await producer.hosts() == []


@pytest.mark.parametrize("deserializer", [wire.deserialize, partial(wire.deserialize)], ids=["ours", "own"])
async def test_a_limit_set_later_holds_for_jobs_already_queued(
    redis: ArqRedis, new_client: NewClient, deserializer: Callable[[bytes], dict[str, Any]]
) -> None:
    """They were enqueued as ready: the worker reads their limit key from the payload."""
    work = Work()
    async with Producer(redis) as producer:
        jobs = [await producer.enqueue_job("send", n, _limit_key="mail") for n in range(6)]
        await producer.limits.set("key:mail", concurrency=1)
        work.gate.set()
        async with running(worker_of(new_client(), work.function(), job_deserializer=deserializer)):
            await asyncio.gather(*(job.value(timeout_s=SOON_S) for job in jobs))
        assert work.most == 1


async def test_a_retried_job_counts_under_its_limit_key_again(redis: ArqRedis, new_client: NewClient) -> None:
    starts: list[int] = []

    async def send(ctx: dict[Any, Any]) -> str:
        starts.append(ctx["job_try"])
        if ctx["job_try"] < 3:
            raise Retry
        return "sent"

    worker = worker_of(new_client(), send)
    async with Producer(redis) as producer, running(worker):
        await producer.limits.set("key:mail", concurrency=1)
        job = await producer.enqueue_job("send", _limit_key="mail", _priority="low")
        assert await job.value(timeout_s=SOON_S) == "sent"
        assert starts == [1, 2, 3]


async def test_the_high_lane_goes_first(redis: ArqRedis, new_client: NewClient) -> None:
    work = Work()
    work.gate.set()
    async with Producer(redis) as producer:
        jobs = [await producer.enqueue_job("send", n, _priority="low" if n < 3 else "high") for n in range(6)]
        async with running(worker_of(new_client(), work.function(), max_jobs=1)):
            await asyncio.gather(*(job.value(timeout_s=SOON_S) for job in jobs))
    assert set(work.done[:2]) <= {3, 4, 5}


async def test_an_expired_job_is_not_started(redis: ArqRedis, new_client: NewClient) -> None:
    work = Work()
    work.gate.set()
    async with Producer(redis) as producer:
        late = await producer.enqueue_job("send", 1, _expires=0.05)
        await wait_until(lambda: _is_gone(redis, late.id), SOON_S)
        async with running(worker_of(new_client(), work.function())):
            with pytest.raises(JobFailed, match="job expired"):
                await late.value(timeout_s=SOON_S)
    assert work.done == []


async def test_a_dead_job_that_is_retried_keeps_its_limit_key_and_lane(redis: ArqRedis, new_client: NewClient) -> None:
    async def fail(ctx: dict[Any, Any]) -> None:
        raise ValueError("no")

    worker = worker_of(new_client(), fail, dead_letter_max=10)
    async with Producer(redis) as producer:
        async with running(worker):
            job = await producer.enqueue_job("fail", _limit_key="mail", _priority="high")
            with pytest.raises(JobFailed, match="no"):
                await job.value(timeout_s=SOON_S)
        await producer.limits.pause("key:mail")
        assert await producer.dead_letters.retry_many([job.id]) == ["retried"]
        [state] = await producer.hosts()
        assert (state.host, state.waiting) == ("key:mail", 1)


async def _is_gone(redis: ArqRedis, job_id: str) -> bool:
    return not await redis.exists(f"arq:job:{job_id}")
