"""The scripts under `lua/workers/`."""

from __future__ import annotations

from typing import Final

from fetchq.store.keys import Keys
from fetchq.store.registry import key_names
from fetchq.store.runner import ScriptRunner


class WorkerCommands:
    """The scripts of workers, for one queue."""

    def __init__(self, keys: Keys) -> None:
        self._workers, self._worker = key_names("workers/heartbeat", keys)
        self._wake_keys: Final = key_names("workers/pass_wake", keys)

    async def heartbeat(
        self, runner: ScriptRunner, *, worker_id: str, record: bytes, ttl_ms: int, now_ms: int | None = None
    ) -> None:
        """Stores the record of a live worker for `ttl_ms`, and removes workers whose last heartbeat is older."""
        args = ("" if now_ms is None else now_ms, worker_id, record, ttl_ms)
        await runner.run("workers/heartbeat", (self._workers, self._worker + worker_id), args)

    async def pass_wake(self, runner: ScriptRunner, *, now_ms: int | None = None) -> bool:
        """Puts a wake token back if jobs are due and the list has none. Returns whether it did."""
        passed: int = await runner.run("workers/pass_wake", self._wake_keys, ("" if now_ms is None else now_ms,))
        return passed == 1
