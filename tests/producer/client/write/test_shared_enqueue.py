"""Jobs that tasks of one producer enqueue at the same time share a call, and each task gets its own outcome."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.producer.client.write.gated_redis import PATIENCE_S, GatedRedis, enqueue_behind, queued
from tests.support.redis_server import RedisServer

from fetchq import (
    FetchJob,
    InvalidRequest,
    KeyConflict,
    Producer,
    QueueFull,
    RedisFull,
    RedisRefused,
)
from fetchq.store.connection import connect

URL = "https://example.org/"


# one call


@pytest.mark.asyncio
async def test_jobs_that_arrive_during_a_call_share_the_next_one(gated: GatedRedis) -> None:
    async with Producer(gated) as producer:
        tasks = await enqueue_behind(producer, gated, 50)
        gated.gate.set()
        jobs = await asyncio.gather(*tasks)
        assert gated.jobs_a_call == [1, 49]
        assert {job.id for job in jobs} == await queued(gated)
        for i, job in enumerate(jobs):
            assert f"http://h/{i}".encode() in await gated.get(f"arq:job:{job.id}")


@pytest.mark.asyncio
async def test_a_caller_alone_is_sent_at_once(gated: GatedRedis) -> None:
    gated.gate.set()
    async with Producer(gated) as producer:
        for _ in range(3):
            await producer.enqueue(URL)
        await producer.enqueue_job("f")
        assert gated.jobs_a_call == [1] * 4


@pytest.mark.asyncio
async def test_fetches_and_own_jobs_share_a_call(gated: GatedRedis) -> None:
    async with Producer(gated) as producer:
        [first] = await enqueue_behind(producer, gated, 1)
        both = asyncio.gather(producer.enqueue_job("f", 1, _job_id="mine"), producer.enqueue(URL), first)
        await asyncio.sleep(0)
        gated.gate.set()
        assert {job.id for job in await both if job} == await queued(gated)
        assert gated.jobs_a_call == [1, 2]
        assert await producer.enqueue_job("f", 1, _job_id="mine") is None


@pytest.mark.asyncio
async def test_enqueue_many_does_not_wait_for_single_jobs(gated: GatedRedis) -> None:
    async with Producer(gated) as producer:
        tasks = await enqueue_behind(producer, gated, 3)
        many = asyncio.create_task(producer.enqueue_many([URL] * 10))
        async with asyncio.timeout(PATIENCE_S):
            while len(gated.jobs_a_call) < 2:
                await asyncio.sleep(0)
        assert gated.jobs_a_call == [1, 10]
        gated.gate.set()
        await asyncio.gather(many, *tasks)


@pytest.mark.asyncio
async def test_a_shared_call_carries_no_context_of_one_of_its_callers(redis: Redis) -> None:
    tenant = contextvars.ContextVar("tenant", default="none")
    seen: list[str] = []

    class Instrumented(GatedRedis):
        async def execute_command(self, *args: Any, **options: Any) -> Any:
            if args[0] == "EVALSHA":
                seen.append(tenant.get())
            return await super().execute_command(*args, **options)

    client = Instrumented(redis)
    async with Producer(client) as producer:

        async def enqueue(name: str) -> None:
            tenant.set(name)
            await producer.enqueue(URL)

        tasks = [asyncio.create_task(enqueue(name)) for name in "abc"]
        await client.reached.wait()
        client.gate.set()
        await asyncio.gather(*tasks)
    assert seen == ["a", "none"]


# each its own outcome


@pytest.mark.asyncio
async def test_a_conflict_is_that_of_its_caller_alone(gated: GatedRedis) -> None:
    async with Producer(gated) as producer:
        gated.gate.set()
        held = await producer.enqueue(URL, key="a")
        gated.gate.clear()
        tasks = await enqueue_behind(producer, gated, 2)
        tasks += [
            asyncio.create_task(producer.enqueue("http://other/", key="a")),
            asyncio.create_task(producer.enqueue(URL, key="a")),
            asyncio.create_task(producer.enqueue(URL)),
        ]
        await asyncio.sleep(0)
        gated.gate.set()
        first, second, conflict, same, last = await asyncio.gather(*tasks, return_exceptions=True)
        assert gated.jobs_a_call == [1, 1, 4]
        assert isinstance(conflict, KeyConflict)
        assert conflict.job_id == held.id
        assert conflict.enqueued == ()
        assert same == held
        assert {job.id for job in (held, first, second, last) if isinstance(job, FetchJob)} == await queued(gated)


@pytest.mark.asyncio
async def test_each_caller_of_a_full_queue_gets_its_own_refusal_and_an_existing_job_needs_no_capacity(
    gated: GatedRedis,
) -> None:
    async with Producer(gated, max_queued=4) as producer:
        gated.gate.set()
        held = await producer.enqueue(URL, key="a")
        gated.gate.clear()
        tasks = await enqueue_behind(producer, gated, 5)
        tasks.append(asyncio.create_task(producer.enqueue(URL, key="a")))
        tasks.append(asyncio.create_task(producer.enqueue(URL)))
        await asyncio.sleep(0)
        gated.gate.set()
        *new, existing, last = await asyncio.gather(*tasks, return_exceptions=True)
        assert gated.jobs_a_call == [1, 1, 6]
        assert [type(outcome) for outcome in new] == [FetchJob] * 3 + [QueueFull] * 2
        assert existing == held
        assert isinstance(last, QueueFull)
        assert len({id(problem) for problem in (*new[3:], last)}) == 3
        assert "max_queued is 4" in str(last)
        assert len(await queued(gated)) == 4


@pytest.mark.asyncio
async def test_waiting_callers_of_one_call_are_admitted_in_order(gated: GatedRedis) -> None:
    async with Producer(gated, max_queued=3, when_full="wait") as producer:
        tasks = await enqueue_behind(producer, gated, 9)
        gated.gate.set()
        for done in (3, 6, 9):
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*tasks[:done])
            assert not any(task.done() for task in tasks[done:])
            await gated.delete("arq:queue")


@pytest.mark.asyncio
async def test_a_full_redis_refuses_each_caller(own_redis_server: RedisServer) -> None:
    async with connect(own_redis_server.url) as admin, Producer.from_url(own_redis_server.url) as producer:
        await admin.config_set("maxmemory", 1)
        outcomes = await asyncio.gather(*(producer.enqueue(URL) for _ in range(5)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [RedisFull] * 5
        assert len({id(outcome) for outcome in outcomes}) == 5


@pytest.mark.asyncio
async def test_an_invalid_request_never_reaches_the_call(gated: GatedRedis) -> None:
    async with Producer(gated) as producer:
        tasks = await enqueue_behind(producer, gated, 2)
        with pytest.raises(InvalidRequest):
            await producer.enqueue("not a URL")
        gated.gate.set()
        await asyncio.gather(*tasks)


@pytest.mark.asyncio
async def test_an_error_of_the_script_is_raised_to_each_caller(redis: Redis, producer: Producer) -> None:
    await redis.set("arq:queue", "of another type")
    outcomes = await asyncio.gather(*(producer.enqueue(URL) for _ in range(4)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RedisRefused] * 4
    assert len({id(outcome) for outcome in outcomes}) == 4
    await redis.delete("arq:queue")
    await producer.enqueue(URL)


# cancelled


@pytest.mark.asyncio
async def test_a_caller_that_is_cancelled_before_its_call_enqueues_nothing(gated: GatedRedis) -> None:
    async with Producer(gated) as producer:
        tasks = await enqueue_behind(producer, gated, 5)
        tasks[2].cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await tasks[2]
        assert cancelled.value.enqueued == ()  # type: ignore[attr-defined]
        gated.gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert gated.jobs_a_call == [1, 3]
        assert {job.id for job in outcomes if isinstance(job, FetchJob)} == await queued(gated)
        assert len(await queued(gated)) == 4


@pytest.mark.asyncio
async def test_a_caller_that_is_cancelled_during_its_call_harms_no_other(gated: GatedRedis) -> None:
    async with Producer(gated) as producer:
        tasks = await enqueue_behind(producer, gated, 5)
        gated.gate.set()
        await tasks[0]
        gated.gate.clear()
        async with asyncio.timeout(PATIENCE_S):
            while len(gated.jobs_a_call) < 2:
                await asyncio.sleep(0)
        tasks[2].cancel()
        await asyncio.wait([tasks[2]])
        gated.gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(outcome, FetchJob) for outcome in outcomes] == [True, True, False, True, True]
        assert len(await queued(gated)) == 5, "Redis has the job: the call could not be recalled"


@pytest.mark.asyncio
async def test_those_that_wait_for_the_call_of_a_cancelled_caller_are_sent(gated: GatedRedis) -> None:
    async with Producer(gated) as producer:
        tasks = await enqueue_behind(producer, gated, 5)
        tasks[0].cancel()
        gated.gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes[0], asyncio.CancelledError)
        assert all(isinstance(outcome, FetchJob) for outcome in outcomes[1:])
        assert gated.jobs_a_call == [1, 4]
        await producer.enqueue(URL)


@pytest.mark.asyncio
async def test_if_the_call_itself_is_cancelled_its_callers_get_an_error_and_the_next_ones_are_sent(
    gated: GatedRedis,
) -> None:
    async with Producer(gated) as producer:
        tasks = await enqueue_behind(producer, gated, 3)
        gated.gate.set()
        await tasks[0]
        gated.gate.clear()
        async with asyncio.timeout(PATIENCE_S):
            while len(gated.jobs_a_call) < 2:
                await asyncio.sleep(0)
        later = asyncio.create_task(producer.enqueue(URL))
        await asyncio.sleep(0)
        [call] = [task for task in asyncio.all_tasks() if task.get_name() == "fetchq-shared-enqueue"]
        call.cancel()
        outcomes = await asyncio.gather(*tasks[1:], return_exceptions=True)
        assert {str(outcome) for outcome in outcomes} == {"the call was cancelled, and the job may be on the queue"}
        gated.gate.set()
        assert (await later).id in await queued(gated)
