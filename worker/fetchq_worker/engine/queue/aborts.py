"""Aborts: jobs whose cancelling was asked for by arq's `Job.abort()` or fetchq's cancel."""

from __future__ import annotations

from typing import Final

from arq.constants import abort_job_max_age

from fetchq.store.engine_scripts import Script
from fetchq.store.keys import Keys

from .lease import Leases

ENTRIES_A_CALL: Final = 1000


class Aborts:
    """The look at the set of asked-for aborts, a page at a time."""

    def __init__(self, keys: Keys, *, worker_id: str) -> None:
        self._redis_keys: Final = (keys.abort, keys.pending, keys.leases)
        self._head: Final = ("", f"{worker_id}.", keys.job, keys.in_progress, abort_job_max_age * 1000)
        self._passed = 0

    async def look(self, script: Script, leases: Leases) -> bool:
        """Cancels the runs of this worker that are to be aborted. True if a waiting job was brought to the front."""
        self._passed, brought, running = await script(self._redis_keys, (*self._head, self._passed, ENTRIES_A_CALL))
        for key in running:
            lease = leases.get(key)
            if lease is not None and not lease.abort_asked:
                lease.abort_asked = True
                lease.cancel()
        return bool(brought)
