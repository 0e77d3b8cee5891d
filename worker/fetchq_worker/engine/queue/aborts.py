"""Aborts: jobs whose cancelling was asked for by arq's `Job.abort()` or fetchq's cancel."""

from __future__ import annotations

from typing import Final

from arq.constants import abort_job_max_age

from fetchq.store.commands import JobCommands
from fetchq.store.keys import Keys
from fetchq.store.runner import ScriptRunner

from .lease import Leases

ENTRIES_A_CALL: Final = 1000


class Aborts:
    """The look at the set of asked-for aborts, a page at a time."""

    def __init__(self, keys: Keys, *, worker_id: str) -> None:
        self._commands: Final = JobCommands(keys)
        self._token_prefix: Final = f"{worker_id}."
        self._skip = 0

    async def look(self, runner: ScriptRunner, leases: Leases) -> bool:
        """Cancels the runs of this worker that are to be aborted. True if a waiting job was brought to the front."""
        reply = await self._commands.find_aborts(
            runner,
            token_prefix=self._token_prefix,
            max_age_ms=abort_job_max_age * 1000,
            skip=self._skip,
            count=ENTRIES_A_CALL,
        )
        self._skip = reply.skip
        for key in reply.running:
            lease = leases.get(key)
            if lease is not None and not lease.abort_asked:
                lease.abort_asked = True
                lease.cancel()
        return reply.any_brought_forward
