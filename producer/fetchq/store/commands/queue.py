"""The scripts under `lua/queue/`."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from fetchq.store.keys import Keys
from fetchq.store.registry import key_names
from fetchq.store.runner import ScriptRunner

_NONE: Final = -1


class QueueReply(NamedTuple):
    """The state of a queue at one moment."""

    now_ms: int
    """The time by Redis's clock."""
    due: int
    waiting: int
    deferred: int
    running: int
    demand: int
    oldest_due_ms: int | None
    """Since when the job that has been due longest could run, before `now_ms`."""
    dead_letters: int
    paused: bool
    hosts_waiting: int
    hosts_cooling: int
    hosts_paused: int
    workers: list[tuple[int, bytes]]
    """The ms of the last heartbeat of each live worker, and its record."""
    memory_bytes: int | None
    max_memory_bytes: int | None


class QueueCommands:
    """The scripts that read the state of a queue."""

    def __init__(self, keys: Keys) -> None:
        self._keys: Final = key_names("queue/state", keys)
        self._args: Final = (keys.lease_ends, keys.leases, keys.dead, keys.paused, keys.workers, keys.worker)

    async def state(self, runner: ScriptRunner, *, now_ms: int | None = None) -> QueueReply:
        """Reads how many jobs are in each state, how many could run now, and the live workers."""
        args = ("" if now_ms is None else now_ms, *self._args)
        reply = QueueReply(*await runner.run("queue/state", self._keys, args))
        workers: list[Any] = reply.workers
        return reply._replace(
            oldest_due_ms=None if reply.oldest_due_ms == _NONE else reply.oldest_due_ms,
            paused=reply.paused == 1,
            memory_bytes=None if reply.memory_bytes == _NONE else reply.memory_bytes,
            max_memory_bytes=None if reply.max_memory_bytes == _NONE else reply.max_memory_bytes,
            workers=[(int(float(at)), record) for at, record in zip(workers[::2], workers[1::2], strict=True)],
        )
