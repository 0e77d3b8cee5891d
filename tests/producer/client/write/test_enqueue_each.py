"""`enqueue_each`: the outcome of one request does not affect the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis
from tests.support.redis_server import RedisServer

from fetchq import (
    FetchJob,
    FetchqError,
    FetchRequest,
    InvalidRequest,
    KeyConflict,
    NotDurable,
    Producer,
    QueueFull,
    RedisUnavailable,
    SyncProducer,
)
from fetchq.sync.producer import SyncFetchJob

URL = "https://example.org/"
PATIENCE_S = 20


async def _queued(redis: Redis) -> set[str]:
    return {job_id.decode() for job_id in await redis.zrange("arq:queue", 0, -1)}


@pytest.mark.asyncio
async def test_each_request_has_its_own_outcome_in_order(redis: Redis, producer: Producer) -> None:
    held = await producer.enqueue(URL, key="a")
    outcomes = await producer.enqueue_each(
        [URL, "not a URL", FetchRequest(url="http://other/", key="a"), FetchRequest(url=URL, key="a"), URL]
    )
    first, invalid, conflict, same, last = outcomes
    assert isinstance(invalid, InvalidRequest)
    assert isinstance(conflict, KeyConflict)
    assert conflict.job_id == held.id
    assert same == held
    assert {job.id for job in (first, same, last) if isinstance(job, FetchJob)} == await _queued(redis)


@pytest.mark.asyncio
async def test_thousands_are_enqueued_in_order(redis: Redis, producer: Producer) -> None:
    outcomes = await producer.enqueue_each(f"http://h/{i}" for i in range(2500))
    jobs = [job for job in outcomes if isinstance(job, FetchJob)]
    assert len(jobs) == await redis.zcard("arq:queue") == 2500
    payloads = await redis.mget([f"arq:job:{job.id}" for job in jobs])
    assert all(f"http://h/{i}".encode() in payload for i, payload in enumerate(payloads))


@pytest.mark.asyncio
async def test_an_empty_list_has_no_outcomes(producer: Producer) -> None:
    assert await producer.enqueue_each([]) == []


@pytest.mark.asyncio
@pytest.mark.parametrize("requests", [URL, FetchRequest(url=URL), 7])
async def test_an_argument_that_is_no_list_of_requests_is_refused(producer: Producer, requests: object) -> None:
    with pytest.raises(InvalidRequest, match="requests: takes URLs and requests to iterate over"):
        await producer.enqueue_each(requests)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_an_error_of_the_iterable_is_raised_before_anything_is_sent(redis: Redis, producer: Producer) -> None:
    def requests() -> Iterator[str]:
        yield from [URL] * 1500
        raise LookupError

    with pytest.raises(LookupError):
        await producer.enqueue_each(requests())
    assert await redis.zcard("arq:queue") == 0


@pytest.mark.asyncio
async def test_a_full_queue_refuses_what_does_not_fit_and_finds_what_exists(redis: Redis) -> None:
    async with Producer(redis, max_queued=1100) as producer:
        held = await producer.enqueue(URL, key="a")
        outcomes = await producer.enqueue_each([*[URL] * 2000, FetchRequest(url=URL, key="a")])
        kinds = [type(outcome) for outcome in outcomes[:-1]]
        assert kinds == [FetchJob] * 1099 + [QueueFull] * 901
        assert outcomes[-1] == held
        assert await redis.zcard("arq:queue") == 1100


@pytest.mark.asyncio
async def test_a_wait_for_capacity_that_times_out_is_not_repeated(redis: Redis) -> None:
    async with Producer(redis, max_queued=10, when_full="wait", full_timeout_s=0.3) as producer:
        async with asyncio.timeout(PATIENCE_S):
            outcomes = await producer.enqueue_each([URL] * 100_000)
        assert [type(outcome) for outcome in outcomes] == [FetchJob] * 10 + [QueueFull] * 99_990


@pytest.mark.asyncio
async def test_during_an_outage_the_rest_is_not_sent(own_redis_server: RedisServer) -> None:
    async with Producer.from_url(own_redis_server.url) as producer:
        await producer.enqueue(URL)
        own_redis_server.stop()
        outcomes = await producer.enqueue_each([URL] * 1500)
        assert {type(outcome) for outcome in outcomes} == {RedisUnavailable}
        assert len({id(outcome) for outcome in outcomes}) == 1500
        own_redis_server.start()
        assert [type(outcome) for outcome in await producer.enqueue_each([URL])] == [FetchJob]


@pytest.mark.asyncio
async def test_each_learns_whether_its_job_is_durable(own_redis_server: RedisServer) -> None:
    options = {"durability": "replicated", "durable_timeout_s": 0.05}
    async with Producer.from_url(own_redis_server.url, **options) as producer:  # type: ignore[arg-type]
        for outcome in await producer.enqueue_each([URL] * 10):
            assert isinstance(outcome, NotDurable)
            [job] = outcome.enqueued
            assert outcome.unconfirmed == (job.id,)


@pytest.mark.asyncio
async def test_a_cancellation_reports_what_is_on_the_queue_and_leaves_no_task(redis: Redis) -> None:
    async with Producer(redis, max_queued=10, when_full="wait", full_timeout_s=None) as producer:
        work = asyncio.create_task(producer.enqueue_each([URL] * 30))
        async with asyncio.timeout(PATIENCE_S):
            while len(producer._writer.capacity.line.waiting) < 20:
                await asyncio.sleep(0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await work
        jobs: tuple[FetchJob, ...] = cancelled.value.enqueued  # type: ignore[attr-defined]
        assert {job.id for job in jobs} == await _queued(redis)
        assert len(jobs) == 10
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_the_blocking_producer_reports_blocking_handles(redis_server: RedisServer) -> None:
    with SyncProducer.from_url(redis_server.url, max_queued=1) as producer:
        job, full, invalid = producer.enqueue_each(iter([URL, URL, "not a URL"]))
        assert isinstance(job, SyncFetchJob)
        assert isinstance(full, QueueFull)
        assert isinstance(invalid, InvalidRequest)
        with pytest.raises(InvalidRequest, match="requests"):
            producer.enqueue_each(7)  # type: ignore[arg-type]
    options = {"durability": "replicated", "durable_timeout_s": 0.05}
    with SyncProducer.from_url(redis_server.url, **options) as producer:  # type: ignore[arg-type]
        [outcome] = producer.enqueue_each([URL])
        assert isinstance(outcome, FetchqError)
        assert [type(one) for one in outcome.enqueued] == [SyncFetchJob]
