"""What a producer does when the queue is full, and how far it reads ahead of Redis."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from harness.servers.durable_redis import DurableRedis
from harness.servers.proxy import Proxy
from redis.asyncio import Redis
from tests.support.redis_server import RedisServer

from fetchq import (
    FetchqError,
    FetchRequest,
    KeyConflict,
    Producer,
    QueueFull,
    RedisUnavailable,
    SyncProducer,
)
from fetchq.client.write.backpressure import Capacity, Ticket
from fetchq.client.write.policy import WhenFull, WritePolicy
from fetchq.store.connection import connect
from fetchq.store.keys import Keys
from fetchq.store.session import Session
from fetchq.sync.producer import SyncFetchJob

URL = "https://example.org/"
SOON_S = 0.2
PATIENCE_S = 20


async def _drain(redis: Redis, count: int) -> None:
    """Removes the first `count` jobs, as if they were finished."""
    for job_id, _ in await redis.zpopmin("arq:queue", count):
        await redis.delete(b"arq:job:" + job_id)


async def _calls(redis: Redis, command: str) -> int:
    stats: dict[str, Any] = await redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


# refuse


@pytest.mark.asyncio
async def test_a_full_queue_refuses_jobs_until_it_has_capacity_again(redis: Redis) -> None:
    async with Producer(redis, max_queued=2) as producer:
        await producer.enqueue(URL)
        await producer.enqueue(URL, delay_s=3600)
        with pytest.raises(QueueFull, match="the queue arq:queue holds 2 jobs, and max_queued is 2") as refusal:
            await producer.enqueue(URL)
        assert refusal.value.enqueued == ()
        with pytest.raises(QueueFull):
            await producer.enqueue_job("f")
        await _drain(redis, 1)
        await producer.enqueue(URL)
        assert await redis.zcard("arq:queue") == len(await redis.keys("arq:job:*")) == 2


@pytest.mark.asyncio
async def test_a_batch_is_enqueued_in_order_as_far_as_it_fits(redis: Redis) -> None:
    async with Producer(redis, max_queued=1200) as producer:
        with pytest.raises(QueueFull) as refusal:
            await producer.enqueue_many(f"http://h/{i}" for i in range(3000))
        jobs = refusal.value.enqueued
        assert len(jobs) == 1200
        payloads = await redis.mget([f"arq:job:{job.id}" for job in jobs])
        assert all(f"http://h/{i}".encode() in payload for i, payload in enumerate(payloads))


@pytest.mark.asyncio
async def test_an_existing_job_needs_no_capacity(redis: Redis) -> None:
    async with Producer(redis, max_queued=2) as producer:
        jobs = [await producer.enqueue(URL, key=key) for key in "ab"]
        assert await producer.enqueue_many([FetchRequest(url=URL, key=key) for key in "bab"]) == [
            jobs[1],
            jobs[0],
            jobs[1],
        ]
        requests = [FetchRequest(url="http://other/", key="a"), FetchRequest(url=URL, key="b"), FetchRequest(url=URL)]
        with pytest.raises(KeyConflict) as conflict:
            await producer.enqueue_many(requests)
        assert conflict.value.enqueued == (jobs[1],)
        assert any("max_queued is 2" in note for note in conflict.value.__notes__)


@pytest.mark.asyncio
async def test_concurrent_producers_do_not_exceed_the_limit_together(redis_server: RedisServer) -> None:
    async def fill() -> int:
        async with Producer.from_url(redis_server.url, max_queued=500) as producer:
            calls = (producer.enqueue_many([URL] * 70) for _ in range(5))
            taken = 0
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(outcome, QueueFull):
                    taken += len(outcome.enqueued)
                else:
                    assert isinstance(outcome, list)
                    taken += len(outcome)
            return taken

    assert sum(await asyncio.gather(*(fill() for _ in range(3)))) == 500
    async with connect(redis_server.url) as admin:
        assert await admin.zcard("arq:queue") == 500


def test_the_blocking_producer_reports_blocking_handles_in_a_refusal(redis_server: RedisServer) -> None:
    with SyncProducer.from_url(redis_server.url, max_queued=3) as producer:
        with pytest.raises(QueueFull) as refusal:
            producer.enqueue_many([URL] * 5)
        assert [type(job) for job in refusal.value.enqueued] == [SyncFetchJob] * 3
        with pytest.raises(QueueFull):
            producer.enqueue(URL)


# wait


@pytest.mark.asyncio
async def test_a_waiting_batch_is_enqueued_as_the_queue_drains(redis: Redis) -> None:
    async with Producer(redis, max_queued=100, when_full="wait") as producer:
        enqueueing = asyncio.create_task(producer.enqueue_many(f"http://h/{i}" for i in range(1500)))
        most, drained = 0, set()
        while not enqueueing.done():
            ids = await redis.zrange("arq:queue", 0, -1)
            most = max(most, len(ids))
            drained |= set(ids[:60])
            await redis.zrem("arq:queue", *ids[:60], "")
            await asyncio.sleep(0.01)
        jobs = await enqueueing
        assert 25 <= most <= 100
        left = await redis.zrange("arq:queue", 0, -1)
        assert {job.id.encode() for job in jobs} == drained | set(left)
        assert len(jobs) == len(drained) + len(left) == 1500


@pytest.mark.asyncio
async def test_the_timeout_of_a_wait_counts_from_the_last_job_that_was_enqueued(redis: Redis) -> None:
    async with Producer(redis, max_queued=10, when_full="wait", full_timeout_s=SOON_S) as producer:
        began = time.monotonic()
        with pytest.raises(QueueFull, match="max_queued is 10") as refusal:
            await producer.enqueue_many([URL] * 12)
        assert time.monotonic() - began >= SOON_S
        assert len(refusal.value.enqueued) == 10
        first, second = await asyncio.gather(producer.enqueue(URL), producer.enqueue(URL), return_exceptions=True)
        assert type(first) is type(second) is QueueFull
        assert first is not second, "each error reports its own jobs"


@pytest.mark.asyncio
async def test_a_cancelled_wait_ends_and_reports_what_was_enqueued(redis: Redis) -> None:
    async with Producer(redis, max_queued=10, when_full="wait", full_timeout_s=None) as producer:
        waiting = asyncio.create_task(producer.enqueue_many([URL] * 12))
        async with asyncio.timeout(PATIENCE_S):
            while not producer._writer.capacity.line.waiting:  # the producer may not know yet that ten are in the queue
                await asyncio.sleep(0.01)
        assert await redis.zcard("arq:queue") == 10
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await waiting
        assert len(cancelled.value.enqueued) == 10  # type: ignore[attr-defined]
        await _drain(redis, 10)
        await producer.enqueue(URL)
        assert await redis.zcard("arq:queue") == 1


@pytest.mark.asyncio
async def test_closing_ends_every_wait(redis: Redis) -> None:
    producer = Producer(redis, max_queued=1, when_full="wait", full_timeout_s=None)
    await producer.enqueue(URL)
    waiting = [asyncio.create_task(producer.enqueue(URL)) for _ in range(3)]
    await asyncio.sleep(SOON_S)
    await producer.aclose()
    async with asyncio.timeout(PATIENCE_S):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, FetchqError) and "was closed" in str(outcome) for outcome in outcomes)


@pytest.mark.asyncio
async def test_an_outage_of_redis_ends_every_wait(own_redis_server: RedisServer) -> None:
    async with Producer.from_url(own_redis_server.url, max_queued=1, when_full="wait") as producer:
        await producer.enqueue(URL)
        waiting = [asyncio.create_task(producer.enqueue(URL)) for _ in range(3)]
        await asyncio.sleep(SOON_S)
        own_redis_server.stop()
        async with asyncio.timeout(PATIENCE_S):
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {RedisUnavailable}
        own_redis_server.start()
        await producer.enqueue(URL)


@pytest.mark.asyncio
async def test_a_thousand_waits_share_one_check_and_are_admitted_in_order(
    own_redis_server: RedisServer,
) -> None:
    async with (
        Producer.from_url(own_redis_server.url, max_queued=5, when_full="wait") as producer,
        connect(own_redis_server.url) as admin,
    ):
        await producer.enqueue_many([URL] * 5)
        order: list[int] = []

        async def enqueue(number: int) -> None:
            await producer.enqueue(URL)
            order.append(number)

        waiting = [asyncio.create_task(enqueue(number)) for number in range(1000)]
        while len(producer._writer.capacity.line.waiting) < 1000:
            await asyncio.sleep(0.01)
        checks, tries = await _calls(admin, "zcard"), await _calls(admin, "evalsha")
        await asyncio.sleep(1.5)
        assert await _calls(admin, "zcard") - checks < 30
        assert await _calls(admin, "evalsha") == tries
        await _drain(admin, 5)
        async with asyncio.timeout(PATIENCE_S):
            while len(order) < 5:
                await asyncio.sleep(0.01)
        assert sorted(order) == [0, 1, 2, 3, 4]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.asyncio
async def test_the_line_is_in_order_of_arrival_and_capacity_is_reserved_once(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusals of concurrent calls arrive in any order, since each has its own connection."""
    capacity = Capacity(Session(redis, Keys()), WritePolicy(max_queued=2, when_full=WhenFull.WAIT))
    checks: asyncio.Queue[int | None] = asyncio.Queue()
    check = capacity._check

    async def check_and_report() -> int | None:
        seen = await check()
        checks.put_nowait(seen)
        return seen

    monkeypatch.setattr(capacity, "_check", check_and_report)
    await redis.zadd("arq:queue", {"a": 1, "b": 2})
    tickets = [capacity.new_ticket() for _ in range(6)]
    admitted: asyncio.Queue[Ticket] = asyncio.Queue()

    async def wait(ticket: Ticket) -> None:
        await capacity.wait(1, QueueFull("full"), None, ticket)
        admitted.put_nowait(ticket)

    waiting = [asyncio.create_task(wait(tickets[place])) for place in (4, 2, 0, 5, 3, 1)]
    async with asyncio.timeout(PATIENCE_S):
        assert await checks.get() == 0
        await redis.zrem("arq:queue", "a", "b")
        assert [await admitted.get(), await admitted.get()] == tickets[:2]
        while not checks.empty():
            checks.get_nowait()
        assert [await checks.get(), await checks.get()] == [0, 0], "their capacity is reserved until their jobs arrive"
        await redis.zadd("arq:queue", {"of the first": 3})
        capacity.end(tickets[0])
        capacity.end(tickets[1])  # cancelled: its capacity goes to the next
        assert await admitted.get() is tickets[2]
    await capacity.aclose()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcomes[task]) for task in (0, 3, 4)] == [FetchqError] * 3
    assert admitted.empty()


@pytest.mark.asyncio
async def test_a_later_caller_waits_while_all_capacity_is_reserved(redis: Redis) -> None:
    capacity = Capacity(Session(redis, Keys()), WritePolicy(max_queued=3, when_full=WhenFull.WAIT))
    await redis.zadd("arq:queue", {"a": 1, "b": 2, "c": 3})
    first, second, third = (capacity.new_ticket() for _ in range(3))
    async with asyncio.timeout(PATIENCE_S):
        waiting = asyncio.create_task(capacity.wait(2, QueueFull("full"), None, first))
        await asyncio.sleep(SOON_S)
        await redis.zrem("arq:queue", "a", "b", "c")
        assert await waiting == 2
        one = asyncio.create_task(capacity.admit(1, second))
        await asyncio.sleep(0)
        assert one.done(), "one fits beside the two"
        await redis.zadd("arq:queue", {"of the second": 4})
        later = asyncio.create_task(capacity.admit(2, third))
        await asyncio.sleep(SOON_S)
        assert not later.done()
        capacity.end(first)  # as after a cancellation
        capacity.end(second)
        assert await later == 2
        capacity.end(third)
        assert await capacity.admit(1000, capacity.new_ticket()) == 1000, "nothing is reserved, and the script decides"
    await capacity.aclose()


@pytest.mark.asyncio
async def test_a_job_whose_durability_is_awaited_is_counted_once(own_redis_server: RedisServer) -> None:
    """A job counts as on the queue as soon as the script has replied, although no replica ever confirms it."""
    options = {"durability": "replicated", "durable_timeout_s": 2.5, "max_queued": 2, "when_full": "wait"}
    async with (
        connect(own_redis_server.url) as admin,
        Producer.from_url(own_redis_server.url, **options) as producer,  # type: ignore[arg-type]
    ):
        await admin.zadd("arq:queue", {"a": 1, "b": 2})
        waiting = [asyncio.create_task(producer.enqueue(URL)) for _ in range(2)]
        async with asyncio.timeout(PATIENCE_S):
            while len(producer._writer.capacity.line.waiting) < 2:
                await asyncio.sleep(0.01)
            for of_theirs in (1, 2):
                await _drain(admin, 1)
                while await admin.exists(*[key async for key in admin.scan_iter("arq:job:*")] or ["-"]) < of_theirs:
                    await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


# faster than Redis


@pytest.mark.asyncio
async def test_a_producer_faster_than_redis_reads_no_further_ahead_than_two_batches() -> None:
    server = DurableRedis("no")
    try:
        async with Proxy(server.port) as proxy, connect(server.url) as admin, Producer.from_url(proxy.url) as producer:
            await producer.ping()
            proxy.delay_s = 0.05
            ahead: list[int] = []

            async def requests() -> AsyncIterator[str]:
                for i in range(12_000):
                    if i % 500 == 499:
                        ahead.append(i + 1 - await admin.zcard("arq:queue"))
                    yield f"http://h/{i}"

            assert len(await producer.enqueue_many(requests())) == 12_000
            assert max(ahead) <= 2000
            assert max(ahead) > 1000, "the producer was the faster one"
    finally:
        server.remove()


@pytest.mark.asyncio
async def test_memory_stays_flat_however_much_is_enqueued_through_a_slow_network() -> None:
    """Bodies of 30 KiB: 90 MB in all, of which two batches of 4 MiB may be in memory, in several copies."""
    server = DurableRedis("no")
    body = bytes(30_000)
    try:
        async with Proxy(server.port) as proxy, Producer.from_url(proxy.url) as producer:
            proxy.delay_s = 0.001
            first = FetchRequest(url=URL, method="PUT", body=body)
            await producer.enqueue_many([first] * 300)
            before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            await producer.enqueue_many(FetchRequest(url=URL, method="PUT", body=bytes(30_000)) for _ in range(3000))
            grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
        assert grown_kib < 40 << 10
    finally:
        server.remove()
