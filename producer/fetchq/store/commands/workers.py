"""The scripts under `lua/workers/`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from fetchq.store.keys import Keys
from fetchq.store.registry import key_names
from fetchq.store.runner import Argument, ScriptRunner


class Report(NamedTuple):
    """What a worker measured since its last report, to be added to the figures of the queue."""

    number: int
    """Greater than that of each earlier report of this worker. A report whose reply was lost is sent again under its
    number, and counts once."""
    figures: Sequence[str | int]
    """Flat: field (`fetchq.telemetry.figures`), what is added to it, field, ..."""


class WorkerCommands:
    """The scripts of workers, for one queue."""

    def __init__(self, keys: Keys) -> None:
        self._workers, self._worker = key_names("workers/heartbeat", keys)
        self._figures: Final = (keys.metrics, keys.minute)
        self._report: Final = keys.worker_report
        self._wake_keys: Final = key_names("workers/pass_wake", keys)

    async def heartbeat(
        self,
        runner: ScriptRunner,
        *,
        worker_id: str,
        record: bytes,
        ttl_ms: int,
        report: Report | None = None,
        now_ms: int | None = None,
    ) -> str:
        """Stores the record of a live worker for `ttl_ms`, and removes workers whose last heartbeat is older.

        Counts the figures of `report`. Returns why Redis refused to count one; empty if it counted all of them.
        """
        args: list[Argument] = ["" if now_ms is None else now_ms, worker_id, record, ttl_ms]
        if report is not None:
            args += (*self._figures, self._report + worker_id, report.number, *report.figures)
        refusal: bytes = await runner.run("workers/heartbeat", (self._workers, self._worker + worker_id), args)
        return refusal.decode("utf-8", "replace")

    async def pass_wake(self, runner: ScriptRunner, *, now_ms: int | None = None) -> bool:
        """Puts a wake token back if jobs are due and the list has none. Returns whether it did."""
        passed: int = await runner.run("workers/pass_wake", self._wake_keys, ("" if now_ms is None else now_ms,))
        return passed == 1
