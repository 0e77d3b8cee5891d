"""Calls that tasks share: lost connections, durability, and the end of the producer or of the event loop."""

from __future__ import annotations

import asyncio
import gc

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from tests.producer.client.write.gated_redis import PATIENCE_S, GatedRedis, enqueue_behind, queued
from tests.support.redis_server import RedisServer

from fetchq import (
    FetchJob,
    FetchqError,
    NotDurable,
    Producer,
    RedisUnavailable,
)
from fetchq.client.write import coalescing
from fetchq.store.connection import connect
from fetchq_worker.process.embedded import EmbeddedRedis

URL = "https://example.org/"


# lost connections


@pytest.mark.asyncio
async def test_a_call_whose_connection_breaks_is_repeated_once_for_all_its_callers(gated: GatedRedis) -> None:
    async with Producer(gated) as producer:
        tasks = await enqueue_behind(producer, gated, 5)
        gated.failures = [RedisConnectionError("lost") for _ in range(2)]
        gated.gate.set()
        first, *others = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(first, RedisUnavailable)
        assert {job.id for job in others if isinstance(job, FetchJob)} == await queued(gated)
        assert gated.jobs_a_call == [1, 1, 4]


@pytest.mark.asyncio
async def test_an_outage_is_raised_to_each_caller_of_the_call(own_redis_server: RedisServer) -> None:
    async with Producer.from_url(own_redis_server.url) as producer:
        await producer.enqueue(URL)
        own_redis_server.stop()
        outcomes = await asyncio.gather(*(producer.enqueue(URL) for _ in range(10)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [RedisUnavailable] * 10
        assert all(isinstance(outcome, FetchqError) and outcome.enqueued == () for outcome in outcomes)
        assert len({id(outcome) for outcome in outcomes}) == 10
        own_redis_server.start()
        await producer.enqueue(URL)


@pytest.mark.asyncio
async def test_no_acknowledged_job_is_missing_or_twice_there_while_connections_break(
    own_redis_server: RedisServer,
) -> None:
    async with (
        connect(own_redis_server.url) as admin,
        Producer.from_url(own_redis_server.url) as producer,
        asyncio.timeout(2 * PATIENCE_S),
    ):
        acknowledged: list[str] = []
        failed = 0

        async def call() -> None:
            nonlocal failed
            for _ in range(50):
                try:
                    acknowledged.append((await producer.enqueue(URL)).id)
                except RedisUnavailable:
                    failed += 1

        callers = [asyncio.create_task(call()) for _ in range(20)]
        while not all(caller.done() for caller in callers):
            await admin.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(0.002)
        await asyncio.gather(*callers)
        assert len(acknowledged) + failed == 1000
        assert len(set(acknowledged)) == len(acknowledged) > 0
        on_queue = await queued(admin)
        assert set(acknowledged) <= on_queue
        assert len(on_queue) <= 1000
        assert await admin.exists(*(f"arq:job:{job_id}" for job_id in on_queue)) == len(on_queue)


# durability


@pytest.mark.asyncio
async def test_the_durability_of_a_call_is_asked_for_once_and_each_caller_learns_of_its_own_job(
    own_redis_server: RedisServer,
) -> None:
    """There is no replica, so no job is acknowledged."""
    options = {"durability": "replicated", "durable_timeout_s": 0.05}
    async with (
        connect(own_redis_server.url) as admin,
        Producer.from_url(own_redis_server.url, **options) as producer,  # type: ignore[arg-type]
    ):
        outcomes = await asyncio.gather(*(producer.enqueue(URL) for _ in range(20)), return_exceptions=True)
        for outcome in outcomes:
            assert isinstance(outcome, NotDurable)
            [job] = outcome.enqueued
            assert outcome.unconfirmed == (job.id,)
        assert len({outcome.enqueued for outcome in outcomes if isinstance(outcome, NotDurable)}) == 20
        waits = (await admin.info("commandstats"))["cmdstat_wait"]["calls"]
        assert waits == 1 + 2, "one as a check, one for each of two calls"


@pytest.mark.asyncio
async def test_jobs_are_sent_while_the_acknowledgement_of_others_is_awaited(own_redis_server: RedisServer) -> None:
    options = {"durability": "replicated", "durable_timeout_s": PATIENCE_S}
    async with (
        connect(own_redis_server.url) as admin,
        Producer.from_url(own_redis_server.url, **options) as producer,  # type: ignore[arg-type]
        asyncio.timeout(PATIENCE_S),
    ):
        tasks = []
        for count in (1, 2, 3):
            tasks.append(asyncio.create_task(producer.enqueue(URL)))
            while await admin.zcard("arq:queue") < count:
                await asyncio.sleep(0.01)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# closing


@pytest.mark.asyncio
async def test_closing_waits_until_the_jobs_of_all_callers_are_sent(own_redis_server: RedisServer) -> None:
    producer = Producer.from_url(own_redis_server.url)
    tasks = [asyncio.create_task(producer.enqueue(URL)) for _ in range(20)]
    await asyncio.sleep(0)
    await producer.aclose()
    jobs = await asyncio.gather(*tasks)
    async with connect(own_redis_server.url) as admin:
        assert {job.id for job in jobs} == await queued(admin)
        assert len(await admin.client_list()) == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_closing_does_not_wait_long_for_a_redis_that_does_not_reply(
    gated: GatedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coalescing, "FLUSH_S", 0.05)
    producer = Producer(gated)
    tasks = await enqueue_behind(producer, gated, 5)
    await producer.aclose()
    outcomes = await asyncio.gather(*tasks[1:], return_exceptions=True)
    assert {str(outcome) for outcome in outcomes} == {"the producer was closed before the job was sent"}
    gated.gate.set()
    assert {(await tasks[0]).id} == await queued(gated), "its client is still open"
    assert gated.jobs_a_call == [1]


@pytest.mark.parametrize("call_under_way", ["of one caller", "shared"])
def test_the_end_of_the_event_loop_ends_every_wait(call_under_way: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> list[asyncio.Task[FetchJob]]:
        gated = GatedRedis(EmbeddedRedis().client())
        producer = Producer(gated)
        tasks = await enqueue_behind(producer, gated, 5)
        if call_under_way == "shared":
            gated.gate.set()
            await tasks.pop(0)
            gated.gate.clear()
            gated.reached.clear()
            tasks.append(asyncio.create_task(producer.enqueue(URL)))
            await gated.reached.wait()
        return tasks

    tasks = asyncio.run(main())
    assert [task.cancelled() for task in tasks] == [True] * 5
    gc.collect()
    assert caplog.records == [], "no task is left"
