"""Putting jobs on the queue: on an embedded Redis and on a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job as ArqJob
from arq.jobs import JobStatus as ArqStatus
from redis.asyncio import Redis
from tests.producer.conftest import Finish
from tests.support.redis_server import RedisServer

from fetchq import (
    FetchJob,
    FetchqError,
    FetchRequest,
    InvalidRequest,
    JobStatus,
    KeyConflict,
    Producer,
    RedisRefused,
    RedisUnavailable,
)
from fetchq.contract import wire
from fetchq.contract.job_ids import id_for_key
from fetchq.store.connection import connect

URL = "https://example.org/"


@pytest.mark.asyncio
async def test_an_enqueued_job_is_queued_and_on_arqs_wire(producer: Producer, redis: Redis) -> None:
    job = await producer.enqueue(URL, method="HEAD")
    assert await job.status() is JobStatus.QUEUED
    payload = wire.deserialize(await redis.get(f"arq:job:{job.id}"))
    assert (payload["f"], payload["a"], payload["k"]) == ("fetch_data", [{"url": URL, "method": "HEAD"}], {})
    assert await ArqJob(job.id, redis, _deserializer=wire.deserialize).status() is ArqStatus.queued
    assert await redis.pttl(f"arq:job:{job.id}") == -1, "a job does not expire while it waits"


@pytest.mark.asyncio
async def test_an_arq_pool_is_accepted_and_stays_open(redis: Redis) -> None:
    pool = ArqRedis(pool_or_conn=redis.connection_pool)
    async with Producer(pool) as producer:
        await producer.enqueue(URL)
    assert await pool.ping()


@pytest.mark.asyncio
async def test_a_client_that_decodes_is_refused() -> None:
    with pytest.raises(FetchqError, match="decode_responses"):
        Producer(Redis(decode_responses=True))


@pytest.mark.asyncio
async def test_ids_of_one_producer_share_their_push_channel_and_are_unique(producer: Producer) -> None:
    jobs = await producer.enqueue_many([URL] * 300)
    assert len({job.id for job in jobs}) == 300
    assert len({job.id[:8] for job in jobs}) == 1
    assert {len(job.id) for job in jobs} == {20}
    assert all(job.id.isalnum() and job.id == job.id.lower() for job in jobs)


@pytest.mark.asyncio
async def test_enqueue_many_keeps_the_order_over_several_batches(producer: Producer, redis: Redis) -> None:
    jobs = await producer.enqueue_many(f"http://h/{i}" for i in range(2500))
    payloads = await redis.mget([f"arq:job:{job.id}" for job in jobs])
    assert [wire.deserialize(payload)["a"][0]["url"] for payload in payloads] == [f"http://h/{i}" for i in range(2500)]
    assert await redis.zcard("arq:queue") == 2500


@pytest.mark.asyncio
async def test_enqueue_many_accepts_an_async_iterable_requests_and_an_empty_list(producer: Producer) -> None:
    async def requests() -> AsyncIterator[FetchRequest]:
        for i in range(3):
            yield FetchRequest(url=f"http://h/{i}")

    assert len(await producer.enqueue_many(requests())) == 3
    assert await producer.enqueue_many([]) == []


@pytest.mark.asyncio
async def test_one_url_given_to_enqueue_many_is_refused(producer: Producer) -> None:
    with pytest.raises(InvalidRequest, match="for a single request call enqueue"):
        await producer.enqueue_many(URL)


@pytest.mark.asyncio
async def test_a_batch_is_bounded_by_bytes_as_well_as_by_number(producer: Producer, redis: Redis) -> None:
    body = bytes(1 << 20)
    requests = [FetchRequest(url=URL, method="PUT", body=body)] * 9
    assert len(await producer.enqueue_many(requests)) == 9
    assert await redis.zcard("arq:queue") == 9


@pytest.mark.asyncio
async def test_an_invalid_request_in_the_middle_reports_what_was_enqueued_before_it(
    producer: Producer, redis: Redis
) -> None:
    def requests() -> Iterator[str]:
        for i in range(1500):
            yield f"http://h/{i}"
        yield "nonsense"

    with pytest.raises(InvalidRequest, match="nonsense") as refusal:
        await producer.enqueue_many(requests())
    assert len(refusal.value.enqueued) == await redis.zcard("arq:queue") == 1000


@pytest.mark.asyncio
@pytest.mark.parametrize("count", [1001, 2000])
async def test_an_error_of_the_iterable_reports_what_was_enqueued_before_it_and_leaves_no_task(
    producer: Producer, redis: Redis, count: int
) -> None:
    def requests() -> Iterator[str]:
        for i in range(count):
            yield f"http://h/{i}"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as problem:
        await producer.enqueue_many(requests())
    jobs = problem.value.enqueued  # type: ignore[attr-defined]  # enqueue_many sets it
    assert len(jobs) == await redis.zcard("arq:queue") == count // 1000 * 1000
    assert f"{len(jobs)} jobs were put on the queue" in problem.value.__notes__[0]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_a_conflict_in_the_batch_under_way_is_noted_on_the_error_of_the_iterable(producer: Producer) -> None:
    held = await producer.enqueue(URL, key="k")

    def requests() -> Iterator[str | FetchRequest]:
        yield FetchRequest(url="http://b/", key="k")
        for i in range(999):
            yield f"http://h/{i}"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as problem:
        await producer.enqueue_many(requests())
    assert len(problem.value.enqueued) == 999  # type: ignore[attr-defined]  # enqueue_many sets it
    assert held.id in problem.value.__notes__[0]


@pytest.mark.asyncio
async def test_an_argument_that_is_not_iterable_is_refused(producer: Producer) -> None:
    with pytest.raises(InvalidRequest, match="not NoneType"):
        await producer.enqueue_many(None)  # type: ignore[arg-type]  # that is the point


@pytest.mark.asyncio
async def test_a_delay_and_a_moment_defer_the_job(producer: Producer, redis: Redis) -> None:
    moment = datetime.now(UTC) + timedelta(hours=1)
    delayed = await producer.enqueue(URL, delay_s=3600)
    at = await producer.enqueue(URL, not_before=moment)
    past = await producer.enqueue(URL, not_before=datetime.now(UTC) - timedelta(hours=1))
    assert await delayed.status() is JobStatus.DEFERRED
    assert await at.status() is JobStatus.DEFERRED
    assert await past.status() is JobStatus.QUEUED
    assert await redis.zscore("arq:queue", at.id) == round(moment.timestamp() * 1000)
    assert await ArqJob(delayed.id, redis, _deserializer=wire.deserialize).status() is ArqStatus.deferred


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("deadline", {"deadline": -5}),
        ("delay_s", {"deadline": 60, "delay_s": 3600.0}),
        ("not_before", {"deadline": 60, "not_before": 3600}),
        ("not_before", {"not_before": 367 * 86_400}),
    ],
)
async def test_a_job_that_could_not_run_in_time_is_refused_when_it_is_enqueued(
    producer: Producer, redis: Redis, field: str, options: dict[str, Any]
) -> None:
    now = datetime.now(UTC)
    moments = {name: now + timedelta(seconds=s) for name, s in options.items() if name != "delay_s"}
    with pytest.raises(InvalidRequest, match=f"^{field}:"):
        await producer.enqueue(URL, **{**options, **moments})
    if not (field == "not_before" and "deadline" in options):  # that one cannot even be made
        with pytest.raises(InvalidRequest, match=f"^{field}:"):
            await producer.enqueue_many([FetchRequest.of(URL, **{**options, **moments})])
    assert await redis.keys("*") == []


@pytest.mark.asyncio
async def test_a_job_that_can_run_before_its_deadline_is_enqueued(producer: Producer) -> None:
    now = datetime.now(UTC)
    await producer.enqueue(URL, deadline=now + timedelta(seconds=60), delay_s=30)
    await producer.enqueue(URL, deadline=now + timedelta(days=3650), not_before=now + timedelta(days=365))


@pytest.mark.asyncio
async def test_a_closed_producer_refuses_and_opens_no_connection_again(redis_server: RedisServer) -> None:
    admin: Redis = connect(redis_server.url)
    producer = Producer.from_url(redis_server.url)
    job = await producer.enqueue(URL)
    await producer.aclose()
    calls: list[Callable[[], Awaitable[object]]] = [
        producer.ping, job.status, job.cancel, job.result, lambda: job.result(timeout_s=0),
        lambda: producer.enqueue(URL), lambda: producer.enqueue_many([URL]), lambda: producer.enqueue_job("f"),
        producer.as_completed([job]).__anext__, producer.cancel_all().__anext__,
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(FetchqError, match="the producer is closed"):
            await call()
    assert len(await admin.client_list()) == 1, "the admin's own"
    await producer.aclose()
    await admin.aclose()


@pytest.mark.asyncio
async def test_the_same_key_gives_the_same_job_until_its_result_has_expired(
    producer: Producer, redis: Redis, finish: Finish
) -> None:
    first = await producer.enqueue(URL, key="k")
    assert await producer.enqueue(URL, key="k", delay_s=5) == first
    assert await redis.zcard("arq:queue") == 1
    await finish(first.id)
    assert await producer.enqueue(URL, key="k") == first
    assert await redis.zcard("arq:queue") == 0
    await redis.delete(f"arq:result:{first.id}")
    assert await producer.enqueue(URL, key="k") == first, "the id follows from the key"
    assert await redis.zcard("arq:queue") == 1, "but the job is a new one"


@pytest.mark.asyncio
async def test_a_different_request_under_a_key_is_a_conflict(producer: Producer, finish: Finish) -> None:
    job = await producer.enqueue(URL, key="k")
    with pytest.raises(KeyConflict) as conflict:
        await producer.enqueue(URL, key="k", method="HEAD")
    assert conflict.value.job_id == job.id
    await finish(job.id)
    with pytest.raises(KeyConflict):
        await producer.enqueue(URL, key="k", method="HEAD")


@pytest.mark.asyncio
async def test_a_conflict_in_a_batch_leaves_the_others_on_the_queue_and_names_them(producer: Producer) -> None:
    held = await producer.enqueue(URL, key="k")
    requests = [FetchRequest(url="http://a/"), FetchRequest(url="http://b/", key="k"), FetchRequest(url="http://c/")]
    with pytest.raises(KeyConflict) as conflict:
        await producer.enqueue_many(requests)
    assert len(conflict.value.enqueued) == 2
    assert held not in conflict.value.enqueued


@pytest.mark.asyncio
async def test_a_key_twice_in_one_batch_is_one_job(producer: Producer, redis: Redis) -> None:
    one, two = await producer.enqueue_many([FetchRequest(url=URL, key="k")] * 2)
    assert one == two
    assert await redis.zcard("arq:queue") == 1


@pytest.mark.asyncio
async def test_two_producers_at_once_with_one_key_make_one_job(redis: Redis) -> None:
    async with Producer(redis) as a, Producer(redis) as b:
        jobs = await asyncio.gather(*(p.enqueue(URL, key="k") for p in (a, b) for _ in range(20)))
    assert len({job.id for job in jobs}) == 1
    assert await redis.zcard("arq:queue") == 1


@pytest.mark.asyncio
async def test_a_key_belongs_to_its_queue(redis: Redis) -> None:
    async with Producer(redis, queue="one") as a, Producer(redis, queue="two") as b:
        assert (await a.enqueue(URL, key="k")).id != (await b.enqueue(URL, key="k")).id


@pytest.mark.asyncio
async def test_a_namespace_prefixes_every_key(redis: Redis) -> None:
    async with Producer(redis, namespace="{t}:") as producer:
        await producer.enqueue(URL)
    assert all(key.startswith(b"{t}:") for key in await redis.keys("*"))


@pytest.mark.asyncio
async def test_idle_workers_are_woken_and_a_burst_costs_no_storm_of_tokens(producer: Producer, redis: Redis) -> None:
    await producer.enqueue(URL, delay_s=3600)
    assert await _wakes(producer, redis) == 0
    await producer.enqueue(URL)
    assert await _wakes(producer, redis) == 1
    await producer.enqueue_many(f"https://host-{i}.example/" for i in range(5000))
    assert await _wakes(producer, redis) == 8


@pytest.mark.asyncio
async def test_parked_jobs_wake_no_worker(producer: Producer, redis: Redis) -> None:
    await producer.enqueue_many([URL] * 5000)
    assert await _wakes(producer, redis) == 8
    await redis.delete(producer.keys.wake)
    await producer.enqueue_many([URL] * 5000)
    assert await _wakes(producer, redis) == 0


@pytest.mark.asyncio
async def test_a_queue_key_of_another_type_is_refused_and_leaves_no_payload(producer: Producer, redis: Redis) -> None:
    await redis.set("arq:queue", "a string")
    with pytest.raises(RedisRefused, match="WRONGTYPE"):
        await producer.enqueue_many([URL] * 3)
    assert await redis.keys("arq:job:*") == []


@pytest.mark.asyncio
async def test_a_redis_that_cannot_be_reached_is_one_clear_error() -> None:
    async with Producer.from_url("redis://:hunter2@127.0.0.1:1") as producer:
        with pytest.raises(RedisUnavailable, match=r"Redis at 127\.0\.0\.1:1 cannot be reached") as error:
            await producer.enqueue(URL)
        assert "hunter2" not in str(error.value)
        with pytest.raises(RedisUnavailable):
            await producer.ping()


@pytest.mark.asyncio
async def test_a_full_redis_refuses_a_batch_as_a_whole(redis_server: RedisServer) -> None:
    redis: Redis = connect(redis_server.url)
    async with Producer(redis) as producer:
        used = (await redis.info("memory"))["used_memory"]
        await redis.config_set("maxmemory", used // 2)
        try:
            with pytest.raises(RedisRefused, match="is full"):
                await producer.enqueue_many([URL] * 10)
        finally:
            await redis.config_set("maxmemory", 0)
        assert await redis.keys("*") == []
    await redis.aclose()


@pytest.mark.asyncio
async def test_an_enqueue_survives_a_script_flush_and_a_connection_that_went_stale(redis_server: RedisServer) -> None:
    async with Producer.from_url(redis_server.url) as producer:
        admin: Redis = connect(redis_server.url)
        await producer.enqueue(URL)
        await admin.script_flush()
        await producer.enqueue(URL)
        await admin.client_kill_filter(_type="normal", skipme=True)
        await producer.enqueue(URL)
        assert await admin.zcard("arq:queue") == 3
        await admin.aclose()


async def _wakes(producer: Producer, redis: Redis) -> int:
    return len(await redis.lrange(producer.keys.wake, 0, -1))  # type: ignore[misc]  # redis-py 5's union of both worlds


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["pending", "wake"])
async def test_a_key_of_the_wrong_type_leaves_no_partial_job(redis: Redis, producer: Producer, name: str) -> None:
    key = getattr(producer.keys, name)
    await redis.set(key, "not what belongs here")
    with pytest.raises(RedisRefused):
        await producer.enqueue_many([FetchRequest(url=URL, key="one"), FetchRequest(url=URL, key="two")])
    await redis.delete(key)
    assert await redis.keys() == []
    jobs = await producer.enqueue_many([FetchRequest(url=URL, key="one"), FetchRequest(url=URL, key="two")])
    assert [await job.status() for job in jobs] == [JobStatus.QUEUED, JobStatus.QUEUED]


@pytest.mark.asyncio
async def test_a_result_of_the_wrong_type_leaves_no_job_of_its_batch_without_its_place(
    redis: Redis, producer: Producer
) -> None:
    """A producer with the same key would count it as enqueued, although it never runs."""
    bad = id_for_key("bad", producer.keys.queue)
    await redis.sadd(producer.keys.result + bad, "not a result")  # type: ignore[misc]  # redis-py 5 types it as either
    with pytest.raises(KeyConflict) as refusal:
        await producer.enqueue_many([FetchRequest(url=URL, key="good"), FetchRequest(url=URL, key="bad")])
    [good] = refusal.value.enqueued
    assert isinstance(good, FetchJob)
    assert await good.status() is JobStatus.QUEUED
