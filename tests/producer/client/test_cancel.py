"""Cancelling jobs: one, many, all of a tag, and the whole queue."""

from __future__ import annotations

import asyncio
import pickle
from functools import partial
from typing import Any

import msgspec
import pytest
from arq.connections import ArqRedis
from arq.jobs import SerializationError
from redis.asyncio import Redis
from tests.support.scripted_queue import job_keys

from fetchq import (
    CancelOutcome,
    FetchRequest,
    FetchStatus,
    JobFailed,
    JobNotFound,
    JobStatus,
    Producer,
)

URL = "https://example.org/"


@pytest.mark.asyncio
async def test_a_waiting_job_is_cancelled_at_once(producer: Producer, redis: Redis) -> None:
    job = await producer.enqueue(URL, delay_s=3600)
    await redis.set(f"fetchq:attempts:{job.id}", b"x")
    assert await job.cancel() is CancelOutcome.CANCELLED
    result = await job.result(timeout_s=5)
    assert (result.status, result.url, result.id) == (FetchStatus.CANCELLED, URL, job.id)
    assert await job.cancel() is CancelOutcome.FINISHED
    assert set(await job_keys(redis)) == {f"arq:result:{job.id}".encode()}
    assert 0 < await redis.pttl(f"arq:result:{job.id}") <= 3_600_000


@pytest.mark.asyncio
async def test_a_running_job_is_cancelled_by_its_worker(producer: Producer, redis: Redis) -> None:
    job = await producer.enqueue(URL)
    await redis.set(f"arq:in-progress:{job.id}", b"1", px=60_000)
    assert await job.status() is JobStatus.IN_PROGRESS
    assert await job.cancel() is CancelOutcome.REQUESTED
    assert await redis.zscore("arq:abort", job.id)
    assert await redis.exists(f"arq:job:{job.id}")


@pytest.mark.asyncio
async def test_many_are_cancelled_in_batches_and_each_outcome_is_returned(producer: Producer, redis: Redis) -> None:
    jobs = await producer.enqueue_many([URL] * 1200)
    outcomes = await producer.cancel_many([*(job.id for job in jobs), "unknown"])
    assert outcomes == [CancelOutcome.CANCELLED] * 1200 + [CancelOutcome.NOT_FOUND]
    assert await redis.zcard("arq:queue") == 0
    assert await producer.cancel_many([]) == []


@pytest.mark.asyncio
async def test_all_jobs_of_a_tag_are_cancelled_and_no_other(producer: Producer, redis: Redis) -> None:
    tagged = await producer.enqueue_many(FetchRequest(url=URL, tags=("nightly", "eu")) for _ in range(1500))
    other = await producer.enqueue(URL, tags=["nightly-2"])
    call = await producer.enqueue_job("count", "nightly")
    counts = [count async for count in producer.cancel_all(tag="nightly")]
    assert sum(count[CancelOutcome.CANCELLED] for count in counts) == len(tagged)
    assert set(await redis.zrange("arq:queue", 0, -1)) == {other.id.encode(), call.id.encode()}


@pytest.mark.asyncio
async def test_a_whole_queue_is_cancelled_and_running_jobs_are_asked(producer: Producer, redis: Redis) -> None:
    jobs = await producer.enqueue_many([URL] * 30)
    await redis.set(f"arq:in-progress:{jobs[0].id}", b"1", px=60_000)
    [count] = [count async for count in producer.cancel_all()]
    assert count == {CancelOutcome.CANCELLED: 29, CancelOutcome.REQUESTED: 1}


@pytest.mark.asyncio
async def test_a_cancelled_job_without_a_stored_result_leaves_no_key(producer: Producer, redis: Redis) -> None:
    job = await producer.enqueue(URL, delay_s=3600, result_ttl_s=0)
    assert await job.cancel() is CancelOutcome.CANCELLED
    assert await job_keys(redis) == []
    with pytest.raises(JobNotFound):
        await job.result(timeout_s=5)


@pytest.mark.asyncio
async def test_an_unreadable_job_can_be_cancelled_too(producer: Producer, redis: Redis) -> None:
    await redis.set("arq:job:junk", b"\x80\x04junk.")
    await redis.zadd("arq:queue", {"junk": 1})
    assert await producer.job("junk").cancel() is CancelOutcome.CANCELLED
    assert (await producer.job("junk").result(timeout_s=5)).status is FetchStatus.CANCELLED


@pytest.mark.asyncio
async def test_a_users_job_with_an_argument_like_a_request_is_no_fetch(producer: Producer) -> None:
    await producer.limits.set("key:mail", concurrency=1)
    request = {"url": "https://example.org/", "tags": ["news"]}
    jobs = [await producer.enqueue_job("page_title", request, _limit_key="mail") for _ in range(3)]
    assert [counts async for counts in producer.cancel_all(tag="news")] == []
    assert [counts async for counts in producer.cancel_all(host="example.org")] == []
    assert await jobs[2].cancel() is CancelOutcome.CANCELLED
    [state] = await producer.hosts()
    assert (state.host, state.waiting, state.due) == ("key:mail", 1, 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("running", [False, True])
async def test_a_producer_of_another_queue_does_not_cancel_a_job(
    producer: Producer, redis: Redis, running: bool
) -> None:
    job = await producer.enqueue(URL)
    if running:
        await redis.set(f"arq:in-progress:{job.id}", b"1", px=60_000)
    before = await redis.keys("*")
    assert await Producer(redis, queue="other").job(job.id).cancel() is CancelOutcome.NOT_FOUND
    assert sorted(await redis.keys("*")) == sorted(before)
    assert await redis.zscore("arq:queue", job.id)


@pytest.mark.asyncio
@pytest.mark.parametrize("protocol", [0, 2, pickle.DEFAULT_PROTOCOL])
async def test_a_stock_client_that_pickles_reads_that_its_job_was_cancelled(
    producer: Producer, redis: Redis, protocol: int
) -> None:
    stock = ArqRedis(redis.connection_pool, job_serializer=partial(pickle.dumps, protocol=protocol))
    job = await stock.enqueue_job("work", {"not": "a request"})
    assert job is not None
    assert await producer.cancel_many([job.job_id]) == [CancelOutcome.CANCELLED]
    with pytest.raises(asyncio.CancelledError):
        await job.result(timeout=1)
    info = await job.result_info()
    assert info is not None
    assert (info.success, info.function, info.queue_name, info.job_id) == (
        False,
        "<unknown>",
        "arq:queue",
        job.job_id,
    )
    assert (await producer.job(job.job_id).result(timeout_s=5)).status is FetchStatus.CANCELLED


@pytest.mark.asyncio
async def test_a_stock_client_with_json_reads_that_its_job_was_cancelled(producer: Producer, redis: Redis) -> None:
    json: dict[str, Any] = {"job_serializer": msgspec.json.encode, "job_deserializer": msgspec.json.decode}
    job = await ArqRedis(redis.connection_pool, **json).enqueue_job("work", 1)
    assert job is not None
    assert await producer.cancel_many([job.job_id]) == [CancelOutcome.CANCELLED]
    with pytest.raises(SerializationError, match="cancelled"):
        await job.result(timeout=1)
    with pytest.raises(JobFailed, match="CancelledError"):
        await producer.job(job.job_id).value(timeout_s=5)
