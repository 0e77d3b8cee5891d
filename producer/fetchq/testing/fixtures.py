"""pytest fixtures: `pytest_plugins = ["fetchq.testing.fixtures"]` in the root conftest.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from fetchq import Producer, SyncProducer

from .worker import TestWorker

try:
    from pytest_asyncio import fixture as async_fixture
except ImportError:  # then anyio's plugin runs async fixtures
    async_fixture = pytest.fixture  # type: ignore[assignment]  # the decorators are of two types


@pytest.fixture
def fetchq_worker() -> TestWorker:
    """A `TestWorker` on an empty embedded Redis."""
    return TestWorker()


@async_fixture
async def fetchq_producer(fetchq_worker: TestWorker) -> AsyncIterator[Producer]:
    """A `Producer` on the queue of `fetchq_worker`."""
    async with fetchq_worker.producer() as producer:
        yield producer


@pytest.fixture
def fetchq_sync_producer(fetchq_worker: TestWorker) -> Iterator[SyncProducer]:
    """A `SyncProducer` on the queue of `fetchq_worker`."""
    with fetchq_worker.sync_producer() as producer:
        yield producer
