"""The cache in Redis: its limits in bytes and time."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.support.redis_server import RedisServer

from fetchq.store.connection import connect
from fetchq.store.keys import Keys
from fetchq_worker.fetch.cache import shared_cache as module
from fetchq_worker.fetch.cache.shared_cache import SharedCache
from fetchq_worker.process.embedded import EmbeddedRedis


@pytest.mark.asyncio
async def test_the_shared_cache_is_bounded_in_bytes_and_counts_exactly(redis_server: RedisServer) -> None:
    redis: Any = connect(redis_server.url)
    shared_cache = SharedCache(redis, Keys(), max_bytes=10_000)
    for n in range(100):
        await shared_cache.put(f"{Keys().cache}{n}", b"x" * 500, 1000.0 + n)
    await shared_cache.put(f"{Keys().cache}99", b"y" * 700, 1000.0)
    await shared_cache.put(f"{Keys().cache}huge", b"x" * 20_000, 1000.0)

    held = list(await redis.keys(f"{Keys().cache}*"))
    sizes = {key: await redis.strlen(key) for key in held}
    assert sum(sizes.values()) <= 10_000
    recorded = await redis.hgetall(Keys().shared_cache_sizes)
    assert int(recorded.pop(b"")) == sum(sizes.values())
    assert {key: int(size) for key, size in recorded.items()} == sizes
    assert set(held) == set(await redis.zrange(Keys().shared_cache, 0, -1))
    await redis.aclose()


@pytest.mark.asyncio
async def test_expired_entries_free_their_bytes(redis_server: RedisServer) -> None:
    redis: Any = connect(redis_server.url)
    shared_cache = SharedCache(redis, Keys(), max_bytes=1000)
    await shared_cache.put(f"{Keys().cache}short", b"x" * 900, 0.05)
    until = time.monotonic() + 5
    while await redis.exists(f"{Keys().cache}short", Keys().shared_cache, Keys().shared_cache_sizes):
        assert time.monotonic() < until
    await shared_cache.put(f"{Keys().cache}next", b"x" * 900, 100.0)
    assert await shared_cache.get(f"{Keys().cache}next") == b"x" * 900
    assert await redis.hget(Keys().shared_cache_sizes, "") == b"900"
    await redis.aclose()


@pytest.mark.asyncio
async def test_a_worker_learns_that_the_cache_is_in_use_and_asks_once_a_second_at_most(
    embedded: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = embedded.client()
    now_s = time.monotonic()
    monkeypatch.setattr(module, "monotonic", lambda: now_s)
    own, other = SharedCache(redis, Keys()), SharedCache(redis, Keys())
    assert not await other.wait_in_use()
    await own.put(f"{Keys().cache}x", b"x", 100.0)
    assert await own.wait_in_use()
    assert not await other.wait_in_use()  # not asked again yet
    now_s += module.LOOK_AGAIN_S
    assert await other.wait_in_use()
    await redis.aclose()
