"""Queue maintenance: removes the TTLs of waiting payloads, so that a job can wait for days."""

from __future__ import annotations

from typing import Final

from fetchq.store.commands import JobCommands
from fetchq.store.keys import Keys
from fetchq.store.runner import ScriptRunner

PAGE: Final = 1000


class QueueMaintainer:
    """Scans the queue, one page a call; all workers of the queue share the scan through a cursor in Redis."""

    def __init__(self, keys: Keys, *, gap_s: float, default_payload_ttl_ms: int) -> None:
        """`default_payload_ttl_ms`: the default TTL of a stock client's payload, counted from its due time."""
        self._commands: Final = JobCommands(keys)
        self._gap_ms: Final = max(1, round(gap_s * 1000))
        self._default_payload_ttl_ms: Final = default_payload_ttl_ms

    async def scan_page(self, runner: ScriptRunner) -> None:
        """Scans the next page, unless another worker has scanned one within `gap_s`."""
        await self._commands.maintain(
            runner, gap_ms=self._gap_ms, page=PAGE, default_payload_ttl_ms=self._default_payload_ttl_ms
        )
