"""Two workers that share a cache."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from tests.support.web.caching import caching_worker

from fetchq_worker.fetch import Fetcher
from fetchq_worker.process.embedded import EmbeddedRedis


@pytest_asyncio.fixture
async def workers(embedded: EmbeddedRedis) -> AsyncIterator[list[Fetcher]]:
    """Two workers' clients on one Redis."""
    redis = embedded.client()
    workers = [caching_worker(redis) for _ in range(2)]
    yield workers
    for fetcher in workers:
        await fetcher.aclose()
    await redis.aclose()
