"""Waiting for results: pushed, shared, bounded, and complete even if a push is lost."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline, PubSub
from tests.producer.conftest import Finish
from tests.support.redis_server import RedisServer

from fetchq import (
    FetchqError,
    FetchStatus,
    InvalidRequest,
    JobFailed,
    JobNotFound,
    Producer,
    RedisUnavailable,
    ResultTimeout,
)
from fetchq.client import results
from fetchq.client.results import CHECK_S, OUTAGE_S, ResultWaiter
from fetchq.store.connection import connect
from fetchq.store.session import Session

URL = "https://example.org/"


@pytest.mark.asyncio
async def test_a_stored_result_is_returned_at_once(producer: Producer, finish: Finish) -> None:
    job = await producer.enqueue(URL)
    await finish(job.id)
    result = await job.result(timeout_s=5)
    assert (result.id, result.status, result.body) == (job.id, FetchStatus.OK, b"[42]")


@pytest.mark.asyncio
async def test_a_wait_ends_with_the_commit_long_before_the_slow_check(producer: Producer, finish: Finish) -> None:
    job = await producer.enqueue(URL)
    waiter = asyncio.create_task(job.result(timeout_s=10))
    await wait_subscribed(producer.results)
    began = time.monotonic()
    await finish(job.id)
    await waiter
    assert time.monotonic() - began < CHECK_S / 4


@pytest.mark.asyncio
async def test_a_lost_push_is_found_by_the_slow_check(redis: Redis, producer: Producer, finish: Finish) -> None:
    producer.results.waits.check_s = 0.1
    job = await producer.enqueue(URL)
    waiter = asyncio.create_task(job.result(timeout_s=10))
    await wait_subscribed(producer.results)
    await finish(job.id, push=False)
    assert (await waiter).ok


@pytest.mark.asyncio
async def test_a_wait_that_takes_too_long_times_out_and_does_not_change_the_job(producer: Producer) -> None:
    job = await producer.enqueue(URL)
    with pytest.raises(ResultTimeout, match=job.id):
        await job.result(timeout_s=0.05)
    assert await job.status() == "queued"
    assert not producer.results._futures


@pytest.mark.asyncio
async def test_a_timeout_of_zero_checks_once(producer: Producer, finish: Finish) -> None:
    job, unfinished = await producer.enqueue_many([URL, URL])
    await finish(job.id)
    assert (await job.result(timeout_s=0)).ok
    with pytest.raises(ResultTimeout, match="no result yet"):
        await unfinished.result(timeout_s=0)
    with pytest.raises(JobNotFound):
        await producer.job("unknown").result(timeout_s=0)


@pytest.mark.asyncio
async def test_as_completed_with_a_timeout_of_zero_yields_what_is_stored(producer: Producer, finish: Finish) -> None:
    jobs = await producer.enqueue_many([URL] * 200)
    for job in jobs[::2]:
        await finish(job.id)
    seen = []
    with pytest.raises(ResultTimeout, match="100 of 200 jobs"):
        async for result in producer.as_completed(jobs, timeout_s=0):
            seen.append(result.id)
    assert seen == [job.id for job in jobs[::2]]
    with pytest.raises(JobNotFound):
        [_ async for _ in producer.as_completed([jobs[0], producer.job("unknown")], timeout_s=0)]


@pytest.mark.asyncio
@pytest.mark.parametrize("job_id", [None, 7, b"abc", "\udc80"])
async def test_an_invalid_id_is_refused_and_affects_no_other_wait(
    producer: Producer, finish: Finish, job_id: Any
) -> None:
    with pytest.raises(InvalidRequest, match="job_id"):
        producer.job(job_id)
    with pytest.raises(InvalidRequest, match="job_id"):
        await producer.status(job_id)
    with pytest.raises(InvalidRequest, match="job_id"):
        await producer.cancel_many([job_id])
    if not isinstance(job_id, str):
        with pytest.raises(TypeError):
            producer.results.watch(job_id)
    job = await producer.enqueue(URL)
    await finish(job.id)
    assert (await job.result(timeout_s=5)).ok
    assert not producer.results._futures


@pytest.mark.asyncio
@pytest.mark.parametrize("timeout_s", [None, 30.0, 0.0])
async def test_a_redis_that_was_never_reached_fails_a_wait_at_once(timeout_s: float | None) -> None:
    async with Producer.from_url("redis://127.0.0.1:1") as producer, asyncio.timeout(OUTAGE_S / 2):
        with pytest.raises(RedisUnavailable, match=r"127\.0\.0\.1:1 cannot be reached"):
            await producer.job("a").result(timeout_s)
        with pytest.raises(RedisUnavailable, match="cannot be reached"):
            [_ async for _ in producer.as_completed([producer.job("b")], timeout_s=timeout_s)]


@pytest.mark.asyncio
async def test_a_wait_that_ends_during_an_outage_reports_the_outage(own_redis_server: RedisServer) -> None:
    async with Producer.from_url(own_redis_server.url) as producer:
        jobs = await producer.enqueue_many([URL] * 2)
        waiter = asyncio.create_task(jobs[0].result(timeout_s=30))
        await wait_subscribed(producer.results)
        own_redis_server.stop()
        with pytest.raises(RedisUnavailable, match="cannot be reached"):
            await jobs[0].result(timeout_s=1)
        with pytest.raises(RedisUnavailable, match="cannot be reached"):
            [_ async for _ in producer.as_completed(jobs, timeout_s=0.5)]
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)


@pytest.mark.asyncio
async def test_an_internal_error_fails_the_waits(producer: Producer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_down(job_ids: list[str]) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(producer.results, "_read", break_down)
    with pytest.raises(FetchqError, match="ZeroDivisionError"):
        await producer.job("a").result(timeout_s=30)


@pytest.mark.asyncio
async def test_an_unknown_job_is_not_waited_for(producer: Producer) -> None:
    with pytest.raises(JobNotFound, match="unknown"):
        await producer.job("unknown").result(timeout_s=10)


@pytest.mark.asyncio
async def test_an_unknown_job_is_not_found_even_by_a_wait_too_short_for_a_check(
    producer: Producer, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "LAST_CHECK_S", 30)  # a busy machine can take longer than the second
    with pytest.raises(JobNotFound, match="unknown"):
        await producer.job("unknown").result(timeout_s=0.000_001)
    with pytest.raises(JobNotFound, match="unknown"):
        [_ async for _ in producer.as_completed([producer.job("unknown")], timeout_s=0.000_001)]
    job, unfinished = await producer.enqueue_many([URL] * 2)
    await finish(job.id)
    assert (await job.result(timeout_s=0.000_001)).ok
    seen = []
    with pytest.raises(ResultTimeout, match="1 of 2 jobs had no result after"):
        async for result in producer.as_completed([unfinished, job], timeout_s=0.000_001):
            seen.append(result.id)
    assert seen == [job.id]
    assert not producer.results._futures


@pytest.mark.asyncio
async def test_any_number_of_waiters_on_one_job_get_its_result_and_one_may_leave(
    producer: Producer, finish: Finish
) -> None:
    job = await producer.enqueue(URL)
    waiters = [asyncio.create_task(job.result(timeout_s=10)) for _ in range(5)]
    await wait_subscribed(producer.results)
    waiters[0].cancel()
    await finish(job.id)
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert [r.id for r in results[1:] if not isinstance(r, BaseException)] == [job.id] * 4


@pytest.mark.asyncio
async def test_as_completed_yields_each_result_once_in_the_order_of_completion(
    producer: Producer, finish: Finish
) -> None:
    jobs = await producer.enqueue_many(f"http://h/{i}" for i in range(4))
    seen = []
    order = [jobs[2], jobs[0], jobs[3], jobs[1]]
    await finish(order[0].id)
    async for result in producer.as_completed([*jobs, jobs[0]], timeout_s=10):
        seen.append(result.id)
        if len(seen) < 4:
            await finish(order[len(seen)].id)
    assert seen == [job.id for job in order]


@pytest.mark.asyncio
async def test_as_completed_yields_the_others_first_and_then_raises_for_a_missing_job(
    producer: Producer, finish: Finish
) -> None:
    jobs = await producer.enqueue_many([URL] * 3)
    for job in jobs:
        await finish(job.id)
    seen = []
    with pytest.raises(JobNotFound, match="unknown"):
        async for result in producer.as_completed([producer.job("unknown"), *jobs], timeout_s=10):
            seen.append(result.id)
    assert set(seen) == {job.id for job in jobs}


@pytest.mark.asyncio
async def test_as_completed_has_a_time_limit_and_can_be_stopped_early(producer: Producer, finish: Finish) -> None:
    jobs = await producer.enqueue_many([URL] * 2)
    await finish(jobs[0].id)
    with pytest.raises(ResultTimeout, match="1 of 2 jobs"):
        async for _ in producer.as_completed(jobs, timeout_s=0.2):
            pass
    results = producer.as_completed(jobs)
    assert (await anext(results)).id == jobs[0].id
    await results.aclose()
    assert not producer.results._futures


@pytest.mark.asyncio
async def test_a_result_that_arrives_at_the_timeout_is_yielded(
    producer: Producer, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await producer.enqueue(URL)
    await finish(job.id)
    loop = asyncio.get_running_loop()
    complete = producer.results._complete

    def complete_late(job_id: str, outcome: bytes | FetchqError) -> None:
        while loop.time() < until:  # the loop is blocked
            pass
        complete(job_id, outcome)

    monkeypatch.setattr(producer.results, "_complete", complete_late)
    until = loop.time() + 0.3
    assert [result.id async for result in producer.as_completed([job], timeout_s=0.2)] == [job.id]


@pytest.mark.asyncio
async def test_a_job_of_a_users_coroutine_returns_its_value_or_raises_its_error(
    producer: Producer, finish: Finish
) -> None:
    good = await producer.enqueue_job("count", "x", depth=2)
    bad = await producer.enqueue_job("count", "y")
    await finish(good.id, {"links": 3})
    await finish(bad.id, ValueError("no links"), success=False)
    assert await good.value(timeout_s=5) == {"links": 3}
    with pytest.raises(JobFailed, match="ValueError: no links"):
        await bad.value(timeout_s=5)
    with pytest.raises(FetchqError, match=r"not a fetch: use value\(\)"):
        await producer.job(good.id).result(timeout_s=5)


@pytest.mark.asyncio
async def test_closing_the_producer_ends_every_wait_and_leaves_no_task(redis: Redis) -> None:
    async with Producer(redis) as producer:
        job = await producer.enqueue(URL)
        waiter = asyncio.create_task(job.result())
        await wait_subscribed(producer.results)
    with pytest.raises(FetchqError, match="closed"):
        await waiter
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_closing_ends_a_wait_at_every_step(redis_server: RedisServer) -> None:
    for ticks in range(60):
        producer = Producer.from_url(redis_server.url)
        job = await producer.enqueue(URL)
        waiter = asyncio.create_task(job.result())
        for _ in range(ticks):  # of the event loop: connecting, subscribing, the first check
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await producer.aclose()
            with pytest.raises(FetchqError, match="closed"):
                await waiter


@pytest.mark.asyncio
async def test_task_and_connection_end_without_waits_and_start_again(producer: Producer, finish: Finish) -> None:
    producer.results.waits.check_s = 0.05
    for _ in range(2):
        job = await producer.enqueue(URL)
        await finish(job.id)
        await job.result(timeout_s=5)
        async with asyncio.timeout(5):
            while producer.results._runner is not None:
                await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_ten_thousand_waiters_share_one_connection(redis_server: RedisServer) -> None:
    url = redis_server.url
    admin: Redis = connect(url)
    async with Producer.from_url(url) as producer:
        jobs = await producer.enqueue_many([URL] * 10_000)
        waiters = [asyncio.create_task(job.result(timeout_s=60)) for job in jobs]
        await wait_subscribed(producer.results)
        clients = await admin.client_list()
        assert len([c for c in clients if c["sub"] != "0"]) == 1
        assert len(clients) <= 4
        stored = await commit_all(admin, producer, [job.id for job in jobs])
        results = await asyncio.gather(*waiters)
    assert [result.id for result in results] == stored
    await admin.aclose()


class SlowReplies(Redis):
    """A client whose pipelines return their replies when `gate` opens."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(connection_pool=redis.connection_pool)
        self.gate = asyncio.Event()
        self.replied = asyncio.Event()

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        pipe = super().pipeline(transaction, shard_hint)
        execute = pipe.execute

        async def execute_and_hold(raise_on_error: bool = True) -> Any:
            reply = await execute(raise_on_error)
            self.replied.set()
            await self.gate.wait()
            return reply

        pipe.execute = execute_and_hold  # type: ignore[method-assign]
        return pipe


@pytest.mark.asyncio
async def test_a_push_during_a_check_is_not_lost(
    redis: Redis, producer: Producer, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowReplies(redis)
    slow.gate.set()
    results = ResultWaiter(Session(slow, producer.keys))
    first, second = await producer.enqueue_many([URL, URL])
    waiter = asyncio.create_task(results.wait(first.id))
    await wait_subscribed(results)
    await finish(first.id)
    await waiter

    received = asyncio.Event()
    handle = results._on_message

    def handle_and_report(message: dict[str, Any]) -> None:
        handle(message)
        received.set()

    monkeypatch.setattr(results, "_on_message", handle_and_report)
    slow.gate.clear()
    slow.replied.clear()
    waiter = asyncio.create_task(results.wait(second.id))
    await slow.replied.wait()
    await finish(second.id)
    await received.wait()
    slow.gate.set()
    async with asyncio.timeout(CHECK_S / 4):
        await waiter
    await results.aclose()


async def wait_subscribed(results: ResultWaiter) -> None:
    """Returns when the channel is confirmed and every id has been checked once."""
    async with asyncio.timeout(10):
        while not results.waits.confirmed or results.waits.unchecked:
            await asyncio.sleep(0.005)


async def commit_all(redis: Redis, producer: Producer, ids: list[str]) -> list[str]:
    """Finishes many jobs in one transaction with one push, as the engine's commit does."""
    from fetchq import FetchResult
    from fetchq.contract import wire

    async with redis.pipeline(transaction=True) as pipe:
        for job_id in ids:
            result = FetchResult(id=job_id, url=URL, status=FetchStatus.OK)
            pipe.set(producer.keys.result + job_id, wire.serialize({"f": "fetch_data", "s": True, "r": result}))
        pipe.zrem(producer.keys.pending, *ids)
        pipe.publish(producer.keys.done + ids[0][:8], "\n".join(ids))
        await pipe.execute()
    return ids


class LosesACancellation(PubSub):
    """As redis-py does under Python 3.11's `asyncio.wait_for` (CPython issue 86296)."""

    lost = False

    async def get_message(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().get_message(*args, **kwargs)
        except asyncio.CancelledError:
            if self.lost:
                raise
            self.lost = True
            return None


@pytest.mark.asyncio
async def test_closing_ends_a_listener_that_lost_its_first_cancellation(redis: Redis) -> None:
    redis.pubsub = lambda: LosesACancellation(redis.connection_pool)  # type: ignore[method-assign,assignment,misc]
    async with Producer(redis) as producer:
        job = await producer.enqueue(URL)
        waiter = asyncio.create_task(job.result())
        await wait_subscribed(producer.results)
        async with asyncio.timeout(5):
            await producer.aclose()
    with pytest.raises(FetchqError, match="closed"):
        await waiter
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
@pytest.mark.parametrize("call", ["result", "as_completed"])
async def test_a_reply_that_comes_together_with_the_timeout_counts(
    producer: Producer, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_slowly(job_ids: list[str]) -> list[JobNotFound]:
        time.sleep(0.1)  # noqa: ASYNC251 - the timeout becomes due while the loop is blocked
        return [JobNotFound(job_id) for job_id in job_ids]

    await producer.ping()
    monkeypatch.setattr(producer.results, "_read", read_slowly)
    with pytest.raises(JobNotFound):
        if call == "result":
            await producer.job("unknown").result(timeout_s=0.09)
        else:
            await anext(producer.as_completed([producer.job("unknown")], timeout_s=0.09))
