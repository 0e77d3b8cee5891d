"""Aborts: jobs that arq's `Job.abort()` or fetchq's `cancel` asked to end."""

from __future__ import annotations

from typing import Final

from arq.constants import abort_job_max_age

from fetchq.store.commands import JobCommands
from fetchq.store.keys import Keys
from fetchq.store.runner import ScriptRunner

from .lease import CancelReason, Leases

ENTRIES_A_CALL: Final = 1000


class Aborts:
    """Reads the set of requested aborts, a page at a time."""

    def __init__(self, keys: Keys, *, worker_id: str) -> None:
        self._commands: Final = JobCommands(keys)
        self._token_prefix: Final = f"{worker_id}."
        self._offset = 0

    async def apply(self, runner: ScriptRunner, leases: Leases) -> bool:
        """Cancels the aborted runs of this worker. Returns whether a waiting job became due."""
        self._offset, moved, running = await self._commands.find_aborts(
            runner,
            token_prefix=self._token_prefix,
            max_age_ms=abort_job_max_age * 1000,
            offset=self._offset,
            count=ENTRIES_A_CALL,
        )
        for key in running:
            lease = leases.get(key)
            if lease is not None and not lease.aborted:
                lease.cancel(CancelReason.ABORT)
        return moved
