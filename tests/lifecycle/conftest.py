"""End-to-end fixtures: a producer, the engine with the fetch, a site on loopback, and Redis of both kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest
import pytest_asyncio
from arq.connections import ArqRedis
from tests.support.running import running
from tests.support.web.site import Site

from fetchq import Producer
from fetchq.store.connection import connect
from fetchq_worker.engine import Worker
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.embedded import EmbeddedRedis
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.settings import Settings

NewClient = Callable[[], ArqRedis]


class Working(Protocol):
    def __call__(self, **settings: Any) -> AbstractAsyncContextManager[Worker]: ...


@pytest.fixture(params=["embedded", "server"])
def new_client(request: pytest.FixtureRequest) -> NewClient:
    """Clients of an embedded Redis, then of a real one."""
    if request.param == "embedded":
        return EmbeddedRedis().client
    url: str = request.getfixturevalue("redis_server").url
    return lambda: connect(url, redis_class=ArqRedis)


@pytest_asyncio.fixture
async def redis(new_client: NewClient) -> AsyncIterator[ArqRedis]:
    client = new_client()
    yield client
    await client.aclose()


@pytest_asyncio.fixture
async def producer(redis: ArqRedis) -> AsyncIterator[Producer]:
    async with Producer(redis) as producer:
        yield producer


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    await site.start()
    yield site
    await site.stop()


@pytest.fixture
def working(new_client: NewClient) -> Working:
    """Runs a worker, as `fetchq worker` makes it, inside the block."""

    @asynccontextmanager
    async def working(**given: Any) -> AsyncIterator[Worker]:
        settings = Settings(**{"allow_net": ("127.0.0.0/8", "::1/128"), "concurrency": 10, "cooldown_s": 0, **given})
        options = {"handle_signals": False, "job_completion_wait": 0, "lease_s": 1.0}
        worker = make_worker(worker_settings(settings=settings, redis_pool=None), new_client(), **options)
        async with running(worker):
            yield worker

    return working
