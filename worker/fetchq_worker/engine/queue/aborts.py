"""Aborts: jobs that arq's `Job.abort()` or fetchq's `cancel` asked to end."""

from __future__ import annotations

from typing import Final

from arq.constants import abort_job_max_age

from fetchq.store.engine_scripts import Script
from fetchq.store.keys import Keys

from .lease import CancelReason, Leases

ENTRIES_A_CALL: Final = 1000


class Aborts:
    """Reads the set of requested aborts, a page at a time."""

    def __init__(self, keys: Keys, *, worker_id: str) -> None:
        self._redis_keys: Final = (keys.abort, keys.pending, keys.leases)
        self._head: Final = ("", f"{worker_id}.", keys.job, keys.in_progress, abort_job_max_age * 1000)
        self._offset = 0

    async def apply(self, script: Script, leases: Leases) -> bool:
        """Cancels the runs of this worker that are aborted. True if a waiting job became due because of it."""
        self._offset, moved, running = await script(self._redis_keys, (*self._head, self._offset, ENTRIES_A_CALL))
        for key in running:
            lease = leases.get(key)
            if lease is not None and not lease.aborted:
                lease.cancel(CancelReason.ABORT)
        return bool(moved)
