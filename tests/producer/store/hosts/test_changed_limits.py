"""A change of limits wakes idle workers long before their next poll."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from arq import func
from arq.connections import ArqRedis
from tests.support.running import running, wait_until
from tests.worker.engine.conftest import MakeWorker

from fetchq import CancelOutcome, Producer
from fetchq.contract.wire import FETCH_FUNCTION, deserialize, serialize
from fetchq_worker.engine import Worker
from fetchq_worker.politeness.gate import FetchGate

pytestmark = pytest.mark.asyncio

SOON_S = 10.0
"""Far less than the worker's poll delay, and enough on a busy machine."""
URLS = [f"http://example.org/{number}" for number in range(12)]


class Fetches:
    """Replaces the fetch: each call waits until the gate is open."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.gate = asyncio.Event()

    async def __call__(self, ctx: dict[str, Any], request: Any) -> None:
        self.started.append(request.url)
        await self.gate.wait()

    async def wait_started(self, count: int) -> None:
        await wait_until(lambda: len(self.started) >= count, SOON_S)


def _worker(make_worker: MakeWorker, fetches: Fetches) -> Worker:
    async def fetch(ctx: dict[str, Any], request: Any) -> None:
        await fetches(ctx, request)

    return make_worker(
        [func(fetch, name=FETCH_FUNCTION)],
        poll_delay=60,
        max_jobs=50,
        gate=FetchGate(),
        job_serializer=serialize,
        job_deserializer=deserialize,
        allow_abort_jobs=True,
    )


async def test_a_host_that_is_resumed_starts_at_once(redis: ArqRedis, make_worker: MakeWorker) -> None:
    fetches = Fetches()
    async with running(_worker(make_worker, fetches)), Producer(redis) as producer:
        await producer.limits.pause("example.org")
        await producer.enqueue_many(URLS)
        await producer.enqueue("http://other.net/")
        await fetches.wait_started(1)
        assert fetches.started == ["http://other.net/"]
        await producer.limits.resume("example.org")
        await fetches.wait_started(1 + 8)
        await producer.limits.set("*", concurrency=11)
        await fetches.wait_started(1 + 11)
        assert len(fetches.started) == 12
        fetches.gate.set()
        await fetches.wait_started(1 + 12)


async def test_a_queue_that_is_resumed_starts_at_once(redis: ArqRedis, make_worker: MakeWorker) -> None:
    fetches = Fetches()
    fetches.gate.set()
    async with running(_worker(make_worker, fetches)), Producer(redis) as producer:
        await producer.enqueue(URLS[0])
        await fetches.wait_started(1)
        await producer.pause()
        jobs = await producer.enqueue_many(URLS[1:])
        await wait_until(lambda: _no_tokens(producer), SOON_S)  # the worker has popped the tokens, and may not claim
        assert len(fetches.started) == 1
        await producer.resume()
        await asyncio.gather(*(job.value(SOON_S) for job in jobs))


async def test_the_jobs_of_a_host_with_a_rate_start_without_a_poll(redis: ArqRedis, make_worker: MakeWorker) -> None:
    fetches = Fetches()
    fetches.gate.set()
    async with running(_worker(make_worker, fetches)), Producer(redis) as producer:
        await producer.limits.set("example.org", rate="20/s")
        await producer.enqueue_many(URLS)
        await fetches.wait_started(12)


async def test_cancelling_a_host_ends_its_running_jobs_too(redis: ArqRedis, make_worker: MakeWorker) -> None:
    fetches = Fetches()
    worker = make_worker(
        [func(fetches.__call__, name=FETCH_FUNCTION)],
        gate=FetchGate(),
        job_serializer=serialize,
        job_deserializer=deserialize,
        allow_abort_jobs=True,
    )
    async with running(worker), Producer(redis) as producer:
        jobs = await producer.enqueue_many(URLS)
        await fetches.wait_started(8)
        total = dict.fromkeys(CancelOutcome, 0)
        async for counts in producer.cancel_all(host="example.org"):
            for outcome, count in counts.items():
                total[outcome] += count
        assert (total[CancelOutcome.CANCELLED], total[CancelOutcome.REQUESTED]) == (4, 8)
        ended = await asyncio.gather(*(job.result(SOON_S) for job in jobs))
        assert {str(result.status) for result in ended} == {"CANCELLED"}
        assert len(fetches.started) == 8
        await wait_until(lambda: _is_removed(producer), SOON_S)


async def _no_tokens(producer: Producer) -> bool:
    count: int = await producer._session.redis.llen(producer.keys.wake)
    return count == 0


async def _is_removed(producer: Producer) -> bool:
    return await producer.hosts() == []
