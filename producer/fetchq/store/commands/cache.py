"""The script under `lua/cache/`."""

from __future__ import annotations

from typing import Final

from fetchq.store.keys import Keys
from fetchq.store.runner import ScriptRunner


class CacheCommands:
    """The script of the cache that workers share."""

    def __init__(self, keys: Keys) -> None:
        self._index_keys: Final = (keys.shared_cache, keys.shared_cache_sizes)

    async def put(self, runner: ScriptRunner, *, key: str, value: bytes, ttl_ms: int, max_bytes: int) -> bool:
        """Stores a value under `key`, which begins with `Keys.cache` or `Keys.robots`.

        Evicts the values that expire first until all of them fit in `max_bytes`. Returns whether it was stored.
        """
        stored: int = await runner.run("cache/put", (key, *self._index_keys), (value, ttl_ms, max_bytes))
        return stored == 1
