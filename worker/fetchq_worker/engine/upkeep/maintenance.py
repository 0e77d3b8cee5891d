"""Queue maintenance: removes the TTLs from waiting payloads, so that a job that waits for days keeps its payload."""

from __future__ import annotations

from typing import Final

from fetchq.store.engine_scripts import Script
from fetchq.store.keys import Keys

PAGE: Final = 1000


class QueueMaintainer:
    """Scans the queue, one page a call; all workers of the queue share the scan through a cursor in Redis."""

    def __init__(self, keys: Keys, *, gap_s: float, default_life_ms: int) -> None:
        """`default_life_ms`: how long past its due time a stock client lets a payload live by default."""
        self._redis_keys: Final = (keys.pending, keys.leases, keys.lease_ends, keys.maintenance_cursor, *keys.frontier)
        self._args: Final = ("", max(1, round(gap_s * 1000)), PAGE, keys.job, default_life_ms, keys.waiting)

    async def scan_page(self, script: Script) -> None:
        """Scans the next page, unless another worker has scanned one within `gap_s`."""
        await script(self._redis_keys, self._args)
