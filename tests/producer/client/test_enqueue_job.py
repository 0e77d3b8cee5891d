"""Jobs of users' own coroutines: arq's options of `enqueue_job`, a lane and a limit key."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.producer.conftest import Finish
from tests.support.redis_server import RedisServer

from fetchq import CancelOutcome, InvalidRequest, JobStatus, Producer, SyncProducer
from fetchq.client.write import writer
from fetchq.contract import wire

QUEUE = "arq:queue"
LONG_AGO = datetime(1, 1, 1)

pytestmark = pytest.mark.asyncio


async def payload_of(redis: Redis, job_id: str) -> dict[str, Any]:
    return wire.deserialize(await redis.get(f"arq:job:{job_id}"))


async def test_a_job_id_is_enqueued_once_while_job_or_result_exists(
    redis: Redis, producer: Producer, finish: Finish
) -> None:
    first = await producer.enqueue_job("count", 1, _job_id="report")
    assert first is not None
    assert first.id == "report"
    assert await producer.enqueue_job("count", 1, _job_id="report") is None
    assert await producer.enqueue_job("other", 2, _job_id="report") is None
    await finish("report", 3)
    assert await producer.enqueue_job("count", 1, _job_id="report") is None
    assert await first.value(timeout_s=5) == 3
    await redis.delete("arq:result:report")
    assert await producer.enqueue_job("count", 1, _job_id="report") == first


async def test_many_tasks_with_one_job_id_enqueue_one_job(redis: Redis, producer: Producer) -> None:
    jobs = await asyncio.gather(*(producer.enqueue_job("count", n, _job_id="one") for n in range(20)))
    assert len([job for job in jobs if job is not None]) == 1
    assert await redis.zcard(QUEUE) == 1


async def test_equal_calls_with_one_job_id_in_the_same_ms_are_two(
    producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "now_in_ms", lambda: 1_700_000_000_000)
    assert await producer.enqueue_job("count", 1, _job_id="report") is not None
    assert await producer.enqueue_job("count", 1, _job_id="report") is None


@pytest.mark.parametrize("defer_by", [3600, 3600.0, timedelta(hours=1)])
async def test_a_deferred_job_is_due_later(redis: Redis, producer: Producer, defer_by: Any) -> None:
    job = await producer.enqueue_job("count", _defer_by=defer_by)
    assert await job.status() is JobStatus.DEFERRED
    moment = datetime.now(UTC) + timedelta(hours=1)
    later = await producer.enqueue_job("count", _defer_until=moment)
    assert await redis.zscore(QUEUE, later.id) == round(moment.timestamp() * 1000)
    past = await producer.enqueue_job("count", _defer_until=moment - timedelta(hours=2))
    assert await past.status() is JobStatus.QUEUED


async def test_a_job_with_expires_has_a_payload_that_expires(redis: Redis, producer: Producer) -> None:
    """As in arq: not started or retried later than this, in ms from now, whenever the job is due."""
    job = await producer.enqueue_job("count", _expires=timedelta(seconds=60), _defer_by=30)
    assert 50_000 < await redis.pttl(f"arq:job:{job.id}") <= 60_000
    urgent = await producer.enqueue_job("count", _expires=60, _priority="high", _limit_key="a")
    assert 50_000 < await redis.pttl(f"arq:job:{urgent.id}") <= 60_000
    without = await producer.enqueue_job("count")
    assert await redis.pttl(f"arq:job:{without.id}") == -1


async def test_tries_limit_key_and_priority_travel_with_the_payload(redis: Redis, producer: Producer) -> None:
    job = await producer.enqueue_job("count", 1, by=2, _job_try=3, _limit_key="mail", _priority="high")
    payload = await payload_of(redis, job.id)
    assert payload.pop("et") > 0
    assert payload == {"t": 3, "f": "count", "a": [1], "k": {"by": 2}, "limit_key": "mail", "priority": "high"}
    plain = await payload_of(redis, (await producer.enqueue_job("count")).id)
    assert set(plain) == {"t", "f", "a", "k", "et"}


async def test_a_lane_decides_which_of_two_due_jobs_is_first(redis: Redis, producer: Producer) -> None:
    jobs = {name: await producer.enqueue_job("count", _priority=name) for name in ("low", "default", "high")}
    scores = {name: await redis.zscore(QUEUE, job.id) for name, job in jobs.items()}
    assert scores["high"] < scores["low"] < 0 < scores["default"]
    assert {await job.status() for job in jobs.values()} == {JobStatus.QUEUED}


async def test_jobs_of_one_limit_key_are_parked_beyond_its_limit(producer: Producer) -> None:
    await producer.limits.set("key:mail", concurrency=2)
    jobs = [await producer.enqueue_job("send", n, _limit_key="mail") for n in range(5)]
    assert [await job.status() for job in jobs] == [JobStatus.QUEUED] * 2 + [JobStatus.DEFERRED] * 3
    [state] = await producer.hosts()
    assert (state.host, state.waiting, state.due) == ("key:mail", 3, 2)
    assert await jobs[4].cancel() is CancelOutcome.CANCELLED
    assert await jobs[0].cancel() is CancelOutcome.CANCELLED
    [state] = await producer.hosts()
    assert (state.waiting, state.due) == (1, 2), "both slots are taken again"


async def test_a_job_of_another_queue_is_handled_there(redis: Redis, producer: Producer) -> None:
    job = await producer.enqueue_job("count", _queue_name="other")
    assert await redis.zcard(QUEUE) == 0
    assert await redis.zcard("other") == 1
    assert await job.status() is JobStatus.QUEUED
    assert await job.cancel() is CancelOutcome.CANCELLED
    assert await redis.zcard("other") == 0


async def test_a_producer_of_another_queue_does_not_cancel_a_waiting_job(redis: Redis, producer: Producer) -> None:
    job = await producer.enqueue("https://example.org/")
    async with Producer(redis, queue="other") as other:
        assert await other.cancel_many([job.id]) == [CancelOutcome.NOT_FOUND]
    assert await job.status() is JobStatus.QUEUED
    assert await redis.exists(f"arq:job:{job.id}") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_job_id", 7), ("_job_id", "\udc80"), ("_queue_name", ""), ("_queue_name", ["q"]), ("_queue_name", "q" * 300),
        ("_defer_by", -1), ("_defer_by", "5"), ("_defer_by", 367 * 86_400), ("_defer_until", 5),
        ("_defer_until", datetime.now(UTC) + timedelta(days=400)), ("_defer_until", LONG_AGO),
        ("_expires", 0), ("_expires", "1h"),
        ("_job_try", 0), ("_job_try", 1.5), ("_priority", "urgent"), ("_limit_key", ""), ("_limit_key", "a\n"),
        ("_timeout", 5), ("_defer", 5), ("__x", 5),
    ],
)  # fmt: skip
async def test_an_invalid_or_unknown_option_is_refused_by_its_name(
    redis: Redis, producer: Producer, name: str, value: Any
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await producer.enqueue_job("count", **{name: value})
    assert refusal.value.field in (name, "job_id", "queue")
    assert name.strip("_").removesuffix("_name") in str(refusal.value)
    assert await redis.keys("*") == []


@pytest.mark.parametrize("function", ["", None, 5, b"count"])
async def test_a_function_is_named_by_a_string(redis: Redis, producer: Producer, function: Any) -> None:
    with pytest.raises(InvalidRequest, match="function: takes the name of a function"):
        await producer.enqueue_job(function)
    assert await redis.keys("*") == []


async def test_two_ways_to_defer_are_one_too_many(producer: Producer) -> None:
    with pytest.raises(InvalidRequest, match="_defer_by"):
        await producer.enqueue_job("count", _defer_by=5, _defer_until=datetime.now(UTC))


@pytest.mark.parametrize("queue", ["", "q" * 201, "a\nb", None, 7])
async def test_a_queue_name_that_the_worker_refuses_is_refused_by_the_producer(redis: Redis, queue: Any) -> None:
    with pytest.raises(InvalidRequest, match="queue: takes a name of 1 to 200"):
        Producer(redis, queue=queue)
    with pytest.raises(InvalidRequest, match="queue: takes a name of 1 to 200"):
        SyncProducer("redis://127.0.0.1:1", queue=queue)


@pytest.mark.parametrize("namespace", [None, 7, "a\nb", "n" * 201, "arq:", "fetchq:x"])
async def test_a_prefix_that_makes_no_namespace_is_refused(redis: Redis, namespace: Any) -> None:
    with pytest.raises(InvalidRequest, match="namespace: "):
        Producer(redis, namespace=namespace)
    with pytest.raises(InvalidRequest, match="namespace: "):
        SyncProducer("redis://127.0.0.1:1", namespace=namespace)


async def test_the_blocking_producer_accepts_the_same_options(redis_server: RedisServer) -> None:
    def use() -> None:
        with SyncProducer(redis_server.url) as producer:
            job = producer.enqueue_job("count", _job_id="a", _queue_name="other", _defer_by=3600)
            assert job is not None
            assert job.status() is JobStatus.DEFERRED
            assert producer.enqueue_job("count", _job_id="a", _queue_name="other") is None
            assert job.cancel() is CancelOutcome.CANCELLED
            with pytest.raises(InvalidRequest, match="_wait"):
                producer.enqueue_job("count", _wait=5)

    await asyncio.to_thread(use)
