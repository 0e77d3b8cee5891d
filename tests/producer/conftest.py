"""Redis of both kinds, and `finish`, which writes what a worker would write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from fetchq import FetchResult, FetchStatus, Producer
from fetchq.contract import wire
from fetchq.store.connection import connect
from fetchq_worker.process.embedded import EmbeddedRedis

Finish = Callable[..., Awaitable[None]]


@pytest_asyncio.fixture(params=["embedded", "server"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    """A client of an embedded Redis, then of a real one."""
    if request.param == "embedded":
        client: Redis = EmbeddedRedis().client()
    else:
        client = connect(request.getfixturevalue("redis_server").url)
    yield client
    await client.aclose()


@pytest_asyncio.fixture
async def producer(redis: Redis) -> AsyncIterator[Producer]:
    async with Producer(redis) as producer:
        yield producer


@pytest.fixture
def finish(redis: Redis, producer: Producer) -> Finish:
    """Commits a job as docs/job-contract.md says, with a push or (`push=False`) without."""

    async def finish(job_id: str, result: Any = None, *, success: bool = True, push: bool = True) -> None:
        keys = producer.keys
        job = wire.deserialize(await redis.get(keys.job + job_id))
        if result is None:
            result = FetchResult(id=job_id, url=job["a"][0]["url"], status=FetchStatus.OK, body=b"[42]")
        stored = {**job, "t": 1, "s": success, "r": result, "st": 1, "ft": 2, "q": keys.queue, "id": job_id}
        async with redis.pipeline(transaction=True) as pipe:
            pipe.set(keys.result + job_id, wire.serialize(stored), px=60_000)
            pipe.delete(keys.job + job_id)
            pipe.zrem(keys.pending, job_id)
            if push:
                pipe.publish(keys.done + job_id[:8], job_id)
            await pipe.execute()

    return finish
