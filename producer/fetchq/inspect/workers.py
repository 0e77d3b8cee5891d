"""The workers of a queue, as each describes itself in Redis with every heartbeat."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from fetchq.contract.wire import UNREADABLE


class WorkerState(StrEnum):
    """What a worker does."""

    RUNNING = "running"
    QUIET = "quiet"
    """It claims no more jobs, and finishes those that it has."""
    STOPPING = "stopping"
    """It finishes its jobs within the grace time, returns the others to the queue, and ends."""


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One worker at its last heartbeat. The engine writes it as JSON; it expires a few heartbeats later."""

    id: str
    host: str
    pid: int
    version: str
    """Of `fetchq_worker`."""
    queue: str
    functions: tuple[str, ...] = ()
    concurrency: int = 0
    """Number of slots."""
    heartbeat_s: float = 0.0
    """Seconds between two heartbeats; 0: not known."""
    running: int = 0
    state: WorkerState = WorkerState.RUNNING
    completed: int = 0
    failed: int = 0
    retried: int = 0
    started_at_ms: int = 0
    """By the worker's clock."""
    heartbeat_ms: int = 0
    """By the clock of Redis; set when the record is read."""


def decode_record(data: bytes) -> WorkerRecord | None:
    """A worker's record; None if the bytes are not one."""
    try:
        return msgspec.json.decode(data, type=WorkerRecord)
    except UNREADABLE:
        return None
