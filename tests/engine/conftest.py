"""What the engine's tests share: a queue on the embedded or on a real Redis, and workers that are closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import pytest
import pytest_asyncio
from arq.connections import ArqRedis
from tests.engine.queue import Queue
from tests.redis_server import RedisServer

from fetchq.redis_url import connect
from fetchq_worker.embedded import EmbeddedRedis
from fetchq_worker.engine import Worker


@pytest_asyncio.fixture(params=["embedded", "real"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[ArqRedis]:
    """An empty Redis: first the embedded one, then a real one."""
    if request.param == "embedded":
        client = request.getfixturevalue("embedded").client()
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        client = connect(server.url, redis_class=ArqRedis)
    yield client
    await client.aclose()


@pytest_asyncio.fixture
async def real_redis(redis_server: RedisServer) -> AsyncIterator[ArqRedis]:
    """A client of an empty real Redis."""
    client = connect(redis_server.url, redis_class=ArqRedis)
    yield client
    await client.aclose()


@pytest_asyncio.fixture
async def embedded_redis(embedded: EmbeddedRedis) -> AsyncIterator[ArqRedis]:
    """A client of an empty embedded Redis."""
    client = embedded.client()
    yield client
    await client.aclose()


@pytest_asyncio.fixture
async def queue(redis: ArqRedis) -> Queue:
    """The engine's scripts on that Redis, under a clock that the test holds."""
    return await Queue.open(redis)


class MakeWorker(Protocol):
    def __call__(self, functions: list[Any], **options: Any) -> Worker: ...


@pytest_asyncio.fixture
async def make_worker(redis: ArqRedis) -> AsyncIterator[MakeWorker]:
    """Makes workers on that Redis. Each is closed at the end of the test."""
    workers: list[Worker] = []

    def make(functions: list[Any], **options: Any) -> Worker:
        options = {"redis_pool": redis, "handle_signals": False, "poll_delay": 0.05, **options}
        workers.append(Worker(functions, **options))
        return workers[-1]

    yield make
    for worker in workers:
        if worker._pool is not None:
            await worker.close()


Runner = Callable[[Worker], Awaitable[None]]
