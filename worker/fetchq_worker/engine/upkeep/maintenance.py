"""Keeping: a slow walk over the queue, so that no job that waits for days loses its payload."""

from __future__ import annotations

from typing import Final

from fetchq.store.engine_scripts import Script
from fetchq.store.keys import Keys

PAGE: Final = 1000


class QueueMaintainer:
    """The walk, one page at a time, shared by all workers of a queue through a cursor in Redis."""

    def __init__(self, keys: Keys, *, gap_s: float, default_life_ms: int) -> None:
        """`default_life_ms`: how long past its due time a stock client lets a payload live by default."""
        self._redis_keys: Final = (keys.pending, keys.leases, keys.lease_ends, keys.maintenance_cursor, *keys.frontier)
        self._args: Final = ("", max(1, round(gap_s * 1000)), PAGE, keys.job, default_life_ms, keys.waiting)

    async def walk(self, script: Script) -> None:
        """Goes over the next page, unless some worker has done so just now."""
        await script(self._redis_keys, self._args)
