"""Keeping: a slow walk over the queue, so that no job that waits for days loses its payload."""

from __future__ import annotations

from typing import Final

from fetchq.store.commands import JobCommands
from fetchq.store.keys import Keys
from fetchq.store.runner import ScriptRunner

PAGE: Final = 1000


class QueueMaintainer:
    """The walk, one page at a time, shared by all workers of a queue through a cursor in Redis."""

    def __init__(self, keys: Keys, *, gap_s: float, default_life_ms: int) -> None:
        """`default_life_ms`: how long past its due time a stock client lets a payload live by default."""
        self._commands: Final = JobCommands(keys)
        self._gap_ms: Final = max(1, round(gap_s * 1000))
        self._default_life_ms: Final = default_life_ms

    async def walk(self, runner: ScriptRunner) -> None:
        """Goes over the next page, unless some worker has done so just now."""
        await self._commands.maintain(runner, gap_ms=self._gap_ms, page=PAGE, default_life_ms=self._default_life_ms)
