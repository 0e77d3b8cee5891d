"""Malformed keys: one of a job affects no other job, and one of the whole queue loses no job."""

from __future__ import annotations

import asyncio

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job
from arq.worker import func
from redis.exceptions import ResponseError
from tests.support.running import running, wait_until
from tests.support.scripted_queue import LEASE_MS, T0, Queue
from tests.worker.engine.conftest import MakeWorker

RECORDS = [
    b"",
    b"w.1|x|y|z",
    b"w.1|nan|5|",
    b"w.1|5|nan|",
    b"w.1|5|inf|x",
    b"w.1|" + b"9" * 400 + b"|5|",
    b"\xff|\x00||",
]
"""Lease records that no worker writes."""


@pytest.mark.asyncio
@pytest.mark.parametrize("record", RECORDS)
async def test_a_malformed_lease_record_stops_no_claim(queue: Queue, record: bytes) -> None:
    await queue.add("bad", "good")
    await queue.redis.hset(queue.keys.leases, "bad", record)
    await queue.redis.zadd(queue.keys.lease_ends, {"bad": T0 - 1})
    assert (await queue.claim()).ids == ["bad", "good"]
    assert await queue.finish("bad") == ([], [], b"")


@pytest.mark.asyncio
@pytest.mark.parametrize("record", RECORDS)
async def test_a_malformed_lease_record_stops_no_commit_of_other_jobs(queue: Queue, record: bytes) -> None:
    await queue.add("bad", "good")
    await queue.claim()
    await queue.redis.hset(queue.keys.leases, "bad", record)
    lost, refused, _ = await queue.commit(
        ("bad", "w.1", "requeue", ""), ("good", "w.1", "finish", 3_600_000, "", "done")
    )
    assert refused == []
    assert lost in ([], [b"bad"])
    assert await queue.redis.get(queue.keys.result + "good") == b"done"
    await queue.expire_in_progress("bad")
    queue.now_ms += LEASE_MS
    assert (await queue.claim(token="w.2")).ids == ["bad"]


@pytest.mark.asyncio
@pytest.mark.parametrize("count", ["inf", "nan", "-3", "1e300", "many", "99999999999999999999"])
async def test_a_malformed_retry_key_restarts_the_count(queue: Queue, count: str) -> None:
    await queue.add("a")
    await queue.redis.set(queue.keys.retry + "a", count)
    assert [job.tries for job in (await queue.claim()).jobs] == [1]
    assert await queue.tries("a") == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("dies", [False, True])
async def test_tries_are_counted_although_the_retry_key_held_another_type(queue: Queue, dies: bool) -> None:
    await queue.add("a")
    await queue.redis.hset(queue.keys.retry + "a", "not", "a count")
    for start in range(1, 4):
        assert [job.tries for job in (await queue.claim(token=f"w.{start}")).jobs] == [start]
        if dies:
            await queue.expire_in_progress("a")
            queue.now_ms += LEASE_MS
        else:
            await queue.commit(("a", f"w.{start}", "retry"))


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["pending", "leases", "lease_ends", "abort", "wake"])
async def test_a_claim_that_fails_on_a_key_of_the_queue_claims_no_job(queue: Queue, name: str) -> None:
    """Jobs claimed by a failing call would run only when their leases end, with a try counted each time."""
    await queue.add("a", "b")
    key = getattr(queue.keys, name)
    kept = await queue.redis.dump(key) if name == "pending" else None
    await queue.redis.set(key, "not what belongs here")
    with pytest.raises(ResponseError):
        await queue.claim()
    assert await queue.tries("a") == 0
    await queue.redis.delete(key)
    if kept is not None:
        await queue.redis.restore(key, 0, kept)
    assert (await queue.claim()).ids == ["a", "b"]


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["leases", "lease_ends", "abort", "wake"])
async def test_a_commit_that_fails_on_a_key_of_the_queue_can_be_repeated(queue: Queue, name: str) -> None:
    await queue.add("a")
    await queue.claim()
    key = getattr(queue.keys, name)
    kept = await queue.redis.hgetall(key) if name == "leases" else None
    await queue.redis.delete(key)
    await queue.redis.set(key, "not what belongs here")
    with pytest.raises(ResponseError):
        await queue.finish("a")
    assert await queue.redis.get(queue.keys.result + "a") is None
    await queue.redis.delete(key)
    if kept:
        await queue.redis.hset(key, mapping=kept)
    assert await queue.finish("a") == ([], [], b"")
    assert await queue.redis.get(queue.keys.result + "a") == b"done"


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["retry", "in_progress"])
async def test_a_claim_whose_reply_was_lost_is_returned_beside_keys_of_the_wrong_type(queue: Queue, kind: str) -> None:
    await queue.add("bad", "good")
    await queue.claim()
    key = getattr(queue.keys, kind) + "bad"
    await queue.redis.delete(key)
    await queue.redis.rpush(key, "not what belongs here")
    await queue.redis.hset(queue.keys.leases, "worse", b"w.1|nan|nan|x")
    await queue.return_claims("w.1")
    assert (await queue.claim(token="w.2")).ids == ["bad", "good"]


@pytest.mark.asyncio
@pytest.mark.parametrize("cursor", ["99999999999999999999999 5", "7 x", "5000000 1"])
async def test_a_maintenance_scan_with_a_malformed_cursor_starts_from_the_beginning(queue: Queue, cursor: str) -> None:
    await queue.add("stock", ttl_ms=86_400_000)
    await queue.redis.set(queue.keys.maintenance_cursor, cursor)
    walks = [await queue.maintain() for _ in range(2)]
    assert walks.count(1) == 1
    await queue.redis.delete(queue.keys.maintenance_cursor)
    await queue.redis.rpush(queue.keys.maintenance_cursor, "a list")
    assert await queue.maintain() == 0


@pytest.mark.asyncio
async def test_a_result_outlives_a_stock_abort_that_puts_its_finished_job_back(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    """arq's `Job.abort` enqueues the id again if its job ends between its read and its write."""

    async def work(ctx: object) -> str:
        return "the one result"

    worker = make_worker([func(work, name="work")])
    async with running(worker):
        job = await redis.enqueue_job("work")
        assert isinstance(job, Job)
        assert await job.result(timeout=5) == "the one result"
        await redis.zadd("arq:queue", {job.job_id: 1})
        await wait_until(lambda: worker.jobs_failed == 1)
        await worker.committer.flush()
        assert await job.result(timeout=5) == "the one result"
        assert await redis.zcard("arq:queue") == 0


@pytest.mark.asyncio
async def test_a_job_that_is_stopped_before_its_coroutine_starts_has_no_try_counted(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    started: list[str] = []

    async def work(ctx: object) -> None:
        started.append("work")

    worker = make_worker([func(work, name="work")])
    reached, never = asyncio.Event(), asyncio.Event()

    async def wait_for_ever(*_: object) -> None:  # as a Redis that does not reply
        reached.set()
        await never.wait()

    job = await redis.enqueue_job("work", _job_try=3)
    assert job is not None
    async with running(worker):
        worker.pool.setex = wait_for_ever  # type: ignore[method-assign,assignment]
        await reached.wait()
    assert started == []
    assert await redis.zscore("arq:queue", job.job_id) is not None
    assert await redis.exists(f"arq:in-progress:{job.job_id}", f"arq:retry:{job.job_id}") == 0
