"""Waiting for results during an outage of Redis."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis
from tests.producer.client.results.test_results import URL, commit_all, wait_subscribed
from tests.support.redis_server import RedisServer

from fetchq import JobNotFound, Producer, RedisUnavailable, ResultTimeout
from fetchq.store.connection import connect


@pytest.mark.asyncio
async def test_waiters_survive_a_broken_connection_and_a_short_outage(own_redis_server: RedisServer) -> None:
    server = own_redis_server
    admin: Redis = connect(server.url)
    async with Producer.from_url(server.url) as producer:
        job = await producer.enqueue(URL)
        payload = await admin.get(f"arq:job:{job.id}")
        waiter = asyncio.create_task(job.result(timeout_s=20))
        await wait_subscribed(producer.results)
        await admin.client_kill_filter(_type="pubsub")
        server.stop()
        server.start()
        fresh: Redis = connect(server.url)
        async with fresh.pipeline(transaction=True) as pipe:  # the server kept nothing, so put the job back first
            pipe.set(f"arq:job:{job.id}", payload)
            pipe.zadd("arq:queue", {job.id: 1})
            await pipe.execute()
        await commit_all(fresh, producer, [job.id])
        try:
            assert (await waiter).id == job.id
        except JobNotFound:  # a check may come between the restart and the restored job
            assert (await job.result(timeout_s=20)).id == job.id
        await fresh.aclose()
    await admin.aclose()


@pytest.mark.asyncio
async def test_a_long_outage_of_redis_ends_the_wait_with_a_clear_error(own_redis_server: RedisServer) -> None:
    server = own_redis_server
    async with Producer.from_url(server.url) as producer:
        producer.results.waits.outage_s = 0.3
        job = await producer.enqueue(URL)
        waiter = asyncio.create_task(job.result())
        await wait_subscribed(producer.results)
        server.stop()
        async with asyncio.timeout(20):
            with pytest.raises(RedisUnavailable, match="is unavailable"):
                await waiter


@pytest.mark.asyncio
async def test_a_wait_after_an_outage_does_not_report_the_outage(own_redis_server: RedisServer) -> None:
    server = own_redis_server
    async with Producer.from_url(server.url) as producer:
        producer.results.waits.check_s = 0.1
        job = await producer.enqueue(URL)
        waiter = asyncio.create_task(job.result(timeout_s=1))
        await wait_subscribed(producer.results)
        server.stop()
        with pytest.raises(RedisUnavailable):
            await waiter
        server.start()
        again = await producer.enqueue(URL)
        for timeout_s in (0, 0.001):
            with pytest.raises(ResultTimeout):
                await again.result(timeout_s=timeout_s)
