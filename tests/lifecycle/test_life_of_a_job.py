"""The life of a job (docs/job-lifecycle.md), from enqueue to the expiry of its result, end to end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from arq.connections import ArqRedis
from tests.support.scripted_queue import job_keys
from tests.support.web.site import Site, Visit, http_response

from fetchq import CancelOutcome, FetchStatus, JobNotFound, JobStatus, KeyConflict, Producer, RetryPolicy
from fetchq.client.handles import FetchJob

from .conftest import Working

pytestmark = pytest.mark.asyncio

QUICK = RetryPolicy(base_s=0.0)


async def test_a_job_is_queued_then_in_progress_then_complete(producer: Producer, working: Working, site: Site) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slowly(visit: Visit) -> None:
        asked.set()
        await may_answer.wait()
        await visit.send(http_response(b"[42]", headers={"Content-Type": "application/json"}))

    job = await producer.enqueue(site.serve("/slow", slowly))
    assert await job.status() is JobStatus.QUEUED
    async with working():
        await asyncio.wait_for(asked.wait(), 10)
        assert await job.status() is JobStatus.IN_PROGRESS
        may_answer.set()
        result = await job.result(timeout_s=10)
    assert (result.status, result.data, result.id) == (FetchStatus.OK, [42], job.id)
    assert len(result.attempts) == 1
    assert await job.status() is JobStatus.COMPLETE


async def test_a_deferred_job_runs_when_its_time_has_come(producer: Producer, working: Working, site: Site) -> None:
    async with working():
        began = asyncio.get_running_loop().time()
        job = await producer.enqueue(site.serve_json("/", 1), delay_s=0.5)
        assert await job.status() is JobStatus.DEFERRED
        assert (await job.result(timeout_s=10)).ok
    assert asyncio.get_running_loop().time() - began >= 0.5


async def test_a_failed_attempt_is_followed_by_another_and_the_result_has_both(
    producer: Producer, working: Working, site: Site
) -> None:
    url = site.serve("/flaky", http_response(status=503), http_response(b"well"))
    async with working():
        result = await (await producer.enqueue(url, retry=QUICK)).result(timeout_s=10)
    assert result.status is FetchStatus.OK
    assert [attempt.status for attempt in result.attempts] == [FetchStatus.HTTP_ERROR, FetchStatus.OK]


async def test_retry_after_is_waited_for_without_a_slot(producer: Producer, working: Working, site: Site) -> None:
    url = site.serve("/busy", http_response(status=503, headers={"Retry-After": "1"}), http_response(b"well"))
    async with working() as worker:
        job = await producer.enqueue(url, retry=QUICK)
        async with asyncio.timeout(10):
            while await job.status() is not JobStatus.DEFERRED:
                await asyncio.sleep(0.01)
        assert worker.running_count == 0
        assert (await job.result(timeout_s=10)).ok


async def test_a_fetch_that_fails_for_good_is_a_result(producer: Producer, working: Working, site: Site) -> None:
    url = site.serve("/broken", http_response(status=500))
    async with working():
        result = await (await producer.enqueue(url, retry=RetryPolicy(max_tries=2, base_s=0.0))).result(timeout_s=10)
    assert (result.status, result.http_status, len(result.attempts)) == (FetchStatus.HTTP_ERROR, 500, 2)


async def test_a_waiting_job_is_cancelled_and_never_fetched(producer: Producer, working: Working, site: Site) -> None:
    job = await producer.enqueue(site.serve_json("/", 1))
    assert await job.cancel() is CancelOutcome.CANCELLED
    async with working():
        assert (await job.result(timeout_s=10)).status is FetchStatus.CANCELLED
        assert (await (await producer.enqueue(site.url("/other"))).result(timeout_s=10)).http_status == 404
    assert [visit.target for visit in site.visits] == ["/other"]


async def test_a_running_job_is_cancelled_by_its_worker(producer: Producer, working: Working, site: Site) -> None:
    asked = asyncio.Event()

    async def never(visit: Visit) -> None:
        asked.set()
        await asyncio.Event().wait()

    async with working():
        job = await producer.enqueue(site.serve("/", never))
        await asyncio.wait_for(asked.wait(), 10)
        assert await job.cancel() is CancelOutcome.REQUESTED
        assert (await job.result(timeout_s=10)).status is FetchStatus.CANCELLED


async def test_a_job_past_its_deadline_is_not_run(producer: Producer, working: Working, site: Site) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=0.3)
    job = await producer.enqueue(site.serve_json("/", 1), deadline=deadline)
    await asyncio.sleep(0.4)  # the clock itself is what is tested
    async with working():
        assert (await job.result(timeout_s=10)).status is FetchStatus.EXPIRED
    assert site.visits == []


async def test_a_result_expires_after_its_ttl(
    producer: Producer, working: Working, site: Site, redis: ArqRedis
) -> None:
    async with working():
        job = await producer.enqueue(site.serve_json("/", 1), result_ttl_s=0.3)
        assert (await job.result(timeout_s=10)).ok
        async with asyncio.timeout(10):
            while await job.status() is not JobStatus.NOT_FOUND:
                await asyncio.sleep(0.02)
        with pytest.raises(JobNotFound):
            await job.result(timeout_s=10)
        none = await producer.enqueue(site.url("/"), result_ttl_s=0)
        with pytest.raises(JobNotFound):
            await none.result(timeout_s=10)
    left = [key for key in await redis.keys("*") if job.id.encode() in key or none.id.encode() in key]
    assert left == []


async def test_the_same_key_twice_is_one_job_and_one_fetch(producer: Producer, working: Working, site: Site) -> None:
    url = site.serve_json("/", 1)
    first = await producer.enqueue(url, key="k")
    async with working():
        assert (await first.result(timeout_s=10)).ok
        again = await producer.enqueue(url, key="k")
        assert again == first
        assert (await again.result(timeout_s=10)).ok
        with pytest.raises(KeyConflict):
            await producer.enqueue(url, key="k", method="HEAD")
    assert len(site.visits) == 1


async def test_a_job_of_no_worker_and_a_job_of_rubbish_end_as_invalid(
    producer: Producer, working: Working, redis: ArqRedis
) -> None:
    await redis.set("arq:job:rubbish", b"\x80\x04rubbish.")
    await redis.zadd("arq:queue", {"rubbish": 1})
    unknown = await producer.enqueue_job("nobody_has_this")
    async with working():
        for job_id in ("rubbish", unknown.id):
            result = await FetchJob(producer, job_id).result(timeout_s=10)
            assert result.status is FetchStatus.INVALID_JOB, result.error


async def test_only_results_remain(producer: Producer, working: Working, site: Site, redis: ArqRedis) -> None:
    urls = [site.serve(f"/{n}", http_response(status=503), http_response(b"well")) for n in range(5)]
    async with working():
        jobs = [await producer.enqueue(url, retry=QUICK) for url in urls]
        assert all([result.ok async for result in producer.as_completed(jobs, timeout_s=10)])
    names = {key.split(b":")[0] + b":" + key.split(b":")[1] for key in await job_keys(redis)}
    assert names <= {b"arq:result", b"fetchq:maintenance-cursor"}
