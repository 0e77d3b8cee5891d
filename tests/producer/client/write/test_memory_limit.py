"""What a producer does when Redis's memory is short."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from tests.support.redis_server import RedisServer

from fetchq import (
    FetchRequest,
    Job,
    JobStatus,
    Producer,
    QueueFull,
    RedisFull,
    RedisRefused,
)
from fetchq.store.connection import connect

URL = "https://example.org/"
SOON_S = 0.2
PATIENCE_S = 20


async def _drain(redis: Redis, count: int) -> None:
    """Removes the first `count` jobs, as if they were finished."""
    for job_id, _ in await redis.zpopmin("arq:queue", count):
        await redis.delete(b"arq:job:" + job_id)


async def _calls(redis: Redis, command: str) -> int:
    stats: dict[str, Any] = await redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


@pytest.fixture
def small_redis() -> Iterator[RedisServer]:
    """A server with 8 MiB, some of which it uses itself."""
    server = RedisServer("--maxmemory", "8mb", "--maxmemory-policy", "noeviction")
    yield server
    server.remove()


async def _fill(redis: Redis, share: float) -> None:
    memory = await redis.info("memory")
    missing = int(memory["maxmemory"] * share) - memory["used_memory"]
    for i in range(missing // 40_960):
        await redis.set(f"filler:{i}", bytes(40_000))


@pytest_asyncio.fixture
async def filled(small_redis: RedisServer) -> AsyncIterator[Redis]:
    """A client of that server when it is nine tenths full."""
    async with connect(small_redis.url) as redis:
        await _fill(redis, 0.9)
        yield redis


@pytest.mark.asyncio
async def test_enqueueing_is_refused_before_redis_reaches_its_maxmemory(
    small_redis: RedisServer, filled: Redis
) -> None:
    async with (
        Producer.from_url(small_redis.url, max_memory=0.8) as careful,
        Producer.from_url(small_redis.url) as other,
    ):
        with pytest.raises(RedisFull, match=r"is full: it uses \d\d % of its maxmemory .* from 80 % on") as refusal:
            await careful.enqueue(URL)
        assert isinstance(refusal.value, QueueFull)
        assert isinstance(refusal.value, RedisRefused)
        await other.enqueue(URL)
        await filled.flushall()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    await careful.enqueue(URL)
                except RedisFull:
                    await asyncio.sleep(0.05)
                else:
                    break


@pytest.mark.asyncio
async def test_memory_is_checked_once_a_second_and_not_with_each_enqueue(redis_server: RedisServer) -> None:
    async with Producer.from_url(redis_server.url) as producer, connect(redis_server.url) as admin:
        before = await _calls(admin, "info")
        began = time.monotonic()
        await asyncio.gather(*(producer.enqueue(URL) for _ in range(500)))
        assert 1 <= await _calls(admin, "info") - before - 1 <= 1 + (time.monotonic() - began)


@pytest.mark.asyncio
async def test_redis_out_of_memory_raises_the_same_error(small_redis: RedisServer, filled: Redis) -> None:
    async with Producer.from_url(small_redis.url, max_memory=None) as producer:
        taken = 0
        with pytest.raises(QueueFull, match="is full: it has reached its maxmemory") as refusal:
            while True:
                await producer.enqueue(URL, method="PUT", body=bytes(50_000))
                taken += 1
        assert type(refusal.value) is RedisFull
        assert 0 < taken == await filled.zcard("arq:queue")


@pytest.mark.asyncio
@pytest.mark.parametrize("max_memory", [0.85, None])
async def test_a_wait_lasts_until_redis_has_memory_again(
    small_redis: RedisServer, filled: Redis, max_memory: float | None
) -> None:
    request = FetchRequest(url=URL, method="PUT", body=bytes(200_000))
    async with Producer.from_url(small_redis.url, when_full="wait", max_memory=max_memory) as producer:
        enqueueing = asyncio.create_task(producer.enqueue_many([request] * 30))
        jobs: list[Job] | None = None
        async with asyncio.timeout(PATIENCE_S):
            while producer._writer.capacity._memory_short is None:
                await asyncio.sleep(0.01)
            assert not enqueueing.done()
            while not enqueueing.done():
                await _drain(filled, 5)
                if keys := await filled.keys("filler:*"):
                    await filled.delete(*keys)
                await asyncio.sleep(0.02)
            jobs = list(await enqueueing)
        assert len(jobs) == 30


@pytest.mark.asyncio
async def test_without_the_right_to_call_info_jobs_are_enqueued_until_redis_refuses(
    small_redis: RedisServer, filled: Redis
) -> None:
    await filled.acl_setuser(
        "app", enabled=True, passwords=["+pw"], keys=["*"], channels=["*"], commands=["+@all", "-info"]
    )
    url = f"unix://app:pw@{small_redis.socket}"
    request = FetchRequest(url=URL, method="PUT", body=bytes(200_000))
    async with Producer.from_url(url, max_memory=0.5, when_full="wait", full_timeout_s=SOON_S) as producer:
        assert await (await producer.enqueue(URL)).status() is JobStatus.QUEUED
        with pytest.raises(RedisFull, match="has reached its maxmemory"):
            await producer.enqueue_many([request] * 100)
