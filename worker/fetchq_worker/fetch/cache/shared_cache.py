"""What all workers share and could do without: a cache in Redis, bounded in bytes and in time.

Redis holds jobs, so a cache beside them must never fill it, and its absence must never fail a fetch.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from redis.exceptions import RedisError

from fetchq.store.keys import Keys
from fetchq.store.scripts import load_script

logger = logging.getLogger("fetchq.fetch")

DEFAULT_SHARED_CACHE_BYTES: Final = 64 << 20
MAX_VALUE_BYTES: Final = 2 << 20


class SharedCache:
    """Values under keys that begin with `keys.robots` or `keys.cache`; at most `max_bytes` of them in all.

    When room is short, those go first that would end soonest. What Redis does not take or give is as if it were not
    there.
    """

    def __init__(self, redis: Any, keys: Keys, max_bytes: int = DEFAULT_SHARED_CACHE_BYTES) -> None:
        self.keys: Final = keys
        self._redis = redis
        self._max_bytes = max_bytes
        self._put = load_script(redis, "cache/put")

    def __repr__(self) -> str:
        return f"<SharedCache {self.keys.shared_cache} max_bytes={self._max_bytes}>"

    async def get(self, key: str) -> bytes | None:
        """The value; None if there is none, or Redis does not say."""
        try:
            value: bytes | None = await self._redis.get(key)
        except (RedisError, OSError) as problem:
            logger.warning("shared_cache.unavailable key=%s error=%s", key, problem)
            return None
        return value

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keeps the value for at most `ttl_s`; one of more than `MAX_VALUE_BYTES` is not kept."""
        ttl_ms = round(ttl_s * 1000)
        if ttl_ms <= 0 or len(value) > MAX_VALUE_BYTES:
            return
        try:
            keys = (key, self.keys.shared_cache, self.keys.shared_cache_sizes)
            await self._put(keys=keys, args=(value, ttl_ms, self._max_bytes))
        except (RedisError, OSError) as problem:
            logger.warning("shared_cache.unavailable key=%s error=%s", key, problem)

    async def drop(self, key: str) -> None:
        """Takes a value away; its bytes are counted until its time has passed."""
        try:
            await self._redis.delete(key)
        except (RedisError, OSError) as problem:
            logger.warning("shared_cache.unavailable key=%s error=%s", key, problem)
