from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from redis.asyncio import Redis
from tests.producer.client.write.gated_redis import GatedRedis

from fetchq import Producer

URL = "https://example.org/"


@pytest_asyncio.fixture
async def gated(redis: Redis) -> AsyncIterator[GatedRedis]:
    async with Producer(redis) as warm_up:  # so that the script is loaded
        await warm_up.enqueue(URL)
    await redis.delete("arq:queue")
    yield GatedRedis(redis)
