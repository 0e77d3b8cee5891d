"""Fixtures: a queue on the embedded and on a real Redis, and workers that are closed at the end."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

import pytest
import pytest_asyncio
from arq.connections import ArqRedis
from tests.support.redis_server import RedisServer
from tests.support.scripted_queue import Queue

from fetchq.store import scripts
from fetchq.store.connection import connect
from fetchq_worker.engine import Worker
from fetchq_worker.process.embedded import EmbeddedRedis

JOBS_IN_A_CHUNK, PLACES_IN_A_MS = 3, 4

NewClient = Callable[[], ArqRedis]


@pytest_asyncio.fixture(params=["embedded", "real"])
async def new_client(request: pytest.FixtureRequest) -> AsyncIterator[NewClient]:
    """Makes clients of an empty Redis: the embedded one in the first run of a test, a real one in the second."""
    if request.param == "embedded":
        connect_once: NewClient = request.getfixturevalue("embedded").client
    else:
        server: RedisServer = request.getfixturevalue("redis_server")

        def connect_once() -> ArqRedis:
            return connect(server.url, redis_class=ArqRedis)

    clients: list[ArqRedis] = []

    def connect_and_remember() -> ArqRedis:
        clients.append(connect_once())
        return clients[-1]

    yield connect_and_remember
    for client in clients:
        await client.aclose()


@pytest.fixture
def redis(new_client: NewClient) -> ArqRedis:
    """A client of that Redis."""
    return new_client()


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
    """The scripts on that Redis, with a clock that the test sets."""
    return Queue(redis)


class MakeWorker(Protocol):
    def __call__(self, functions: list[Any], **options: Any) -> Worker: ...


@pytest_asyncio.fixture
async def make_worker(new_client: NewClient) -> AsyncIterator[MakeWorker]:
    """Makes workers on that Redis, each with its own client. They are closed at the end of the test."""
    workers: list[Worker] = []

    def make(functions: list[Any], **options: Any) -> Worker:
        options = {"redis_pool": new_client(), "handle_signals": False, "poll_delay": 0.05, **options}
        workers.append(Worker(functions, **options))
        return workers[-1]

    yield make
    for worker in workers:
        if worker._pool is not None:
            await worker.close()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Chunks of a few jobs, so that a short queue of a limit key has several. Must be requested first."""
    read = scripts._read
    constants = {
        "include/host_queues/host_queue_insert": ("local CHUNK_SIZE", JOBS_IN_A_CHUNK),
        "include/host_queues/host_queue": ("local PLACES_PER_MS", PLACES_IN_A_MS),
    }

    def read_with_small_chunks(name: str) -> str:
        source = read(name)
        if name in constants:
            constant, number = constants[name]
            source, count = re.subn(rf"^{constant} = \d+", f"{constant} = {number}", source, flags=re.M)
            assert count == 1
        return source

    monkeypatch.setattr(scripts, "_read", read_with_small_chunks)
    scripts._assemble.cache_clear()
    yield JOBS_IN_A_CHUNK
    scripts._assemble.cache_clear()
