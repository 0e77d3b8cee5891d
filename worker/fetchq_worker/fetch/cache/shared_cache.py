"""A cache in Redis that all workers share, limited in bytes and in time.

Redis also holds the jobs: the cache must not fill it, and an unavailable cache must not fail a fetch.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any, Final

from redis.exceptions import RedisError

from fetchq.store.commands import CacheCommands
from fetchq.store.errors import reason_of
from fetchq.store.keys import Keys
from fetchq.store.runner import ClientRunner

logger = logging.getLogger("fetchq.fetch")

DEFAULT_SHARED_CACHE_BYTES: Final = 64 << 20
MAX_VALUE_BYTES: Final = 2 << 20
LOOK_AGAIN_S: Final = 1.0


class SharedCache:
    """Values under keys that begin with `keys.robots` or `keys.cache`, at most `max_bytes` in total.

    The values that expire soonest are evicted first. Errors of Redis are logged, not raised.
    """

    def __init__(self, redis: Any, keys: Keys, max_bytes: int = DEFAULT_SHARED_CACHE_BYTES) -> None:
        self.keys: Final = keys
        self._redis = redis
        self._max_bytes = max_bytes
        self._runner: Final = ClientRunner(redis)
        self._commands: Final = CacheCommands(keys)
        self._in_use = False
        self._look_again_s = 0.0

    def __repr__(self) -> str:
        return f"<SharedCache {self.keys.shared_cache} max_bytes={self._max_bytes}>"

    async def get(self, key: str) -> bytes | None:
        """The value; None if there is none, or if Redis does not answer."""
        try:
            value: bytes | None = await self._redis.get(key)
        except (RedisError, OSError) as problem:
            logger.warning("shared_cache.unavailable key=%s error=%s", key, reason_of(problem))
            return None
        return value

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Stores a value for at most `ttl_s`, unless it is larger than `MAX_VALUE_BYTES`."""
        self._in_use = True
        ttl_ms = round(ttl_s * 1000)
        if ttl_ms <= 0 or len(value) > MAX_VALUE_BYTES:
            return
        try:
            await self._commands.put(self._runner, key=key, value=value, ttl_ms=ttl_ms, max_bytes=self._max_bytes)
        except (RedisError, OSError) as problem:
            logger.warning("shared_cache.unavailable key=%s error=%s", key, reason_of(problem))

    async def evict(self, *keys: str) -> None:
        """Removes values. Their bytes count towards `max_bytes` until their TTL ends."""
        try:
            await self._redis.delete(*keys)
        except (RedisError, OSError) as problem:
            logger.warning("shared_cache.unavailable key=%s error=%s", keys[0], reason_of(problem))

    async def wait_in_use(self) -> bool:
        """Whether any worker has stored something. Asks Redis once a second at most, and no more once it is so."""
        now_s = monotonic()
        if not self._in_use and now_s >= self._look_again_s:
            self._look_again_s = now_s + LOOK_AGAIN_S
            try:
                self._in_use = await self._redis.zcard(self.keys.shared_cache) > 0
            except (RedisError, OSError) as problem:
                logger.warning("shared_cache.unavailable key=%s error=%s", self.keys.shared_cache, reason_of(problem))
        return self._in_use
