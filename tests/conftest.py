"""Fixtures for all tests: an embedded Redis, and a real one that the session starts and stops."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from tests.support.redis_server import RedisServer

from fetchq import Producer
from fetchq_worker.process.embedded import EmbeddedRedis


@pytest.fixture(scope="session")
def _session_redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.remove()


@pytest.fixture
def redis_server(_session_redis: RedisServer) -> RedisServer:
    """A real, empty Redis 7. It is shared and must not be stopped: use `own_redis_server` for that."""
    _session_redis.flush()
    return _session_redis


@pytest.fixture
def own_redis_server() -> Iterator[RedisServer]:
    """A real Redis for this test alone, which may be stopped and started."""
    server = RedisServer()
    yield server
    server.remove()


@pytest.fixture
def embedded() -> EmbeddedRedis:
    """An empty Redis inside the process."""
    return EmbeddedRedis()


@pytest_asyncio.fixture
async def producer(embedded: EmbeddedRedis) -> AsyncIterator[Producer]:
    """A producer on the embedded Redis."""
    redis = embedded.client()
    async with Producer(redis) as producer:
        yield producer
    await redis.aclose()
