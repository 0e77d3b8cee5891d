"""Admission: a claimed job starts if its limit key has room for it; otherwise it waits in the queue of its key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from redis.asyncio import Redis

from fetchq.store.commands import AdmitJob, JobCommands
from fetchq.store.keys import Keys
from fetchq.store.runner import ScriptRunner

from .lease import Lease

WILL_NOT_RUN: Final = "0"
"""A deadline that has passed: the job starts only to end at once, under no limit, and its place goes to the next."""


class Limit(NamedTuple):
    """What a job says of its limits."""

    key: str
    """Empty: none, it starts at once."""
    deadline_ms: str = ""
    """Since the epoch; empty: none."""
    heeds: str = ""
    """Another key for which it does not count, but whose cooling-off and pause hold it up too; empty: none."""


class Gate(Protocol):
    """What the engine is told of limits: to which key those of a job belong. It knows nothing of what a key means."""

    async def open(self, redis: Redis, keys: Keys) -> None:
        """Called when the worker is connected, before its start hook and its first claim."""

    def limit_of(self, name: str, args: Sequence[Any]) -> Limit | None:
        """The job's limit key and deadline, of which Redis's clock decides whether it has passed.

        None where it takes time to know: then `wait_limit_of` is asked once the job has a slot.
        """

    async def wait_limit_of(self, name: str, args: Sequence[Any]) -> Limit:
        """The same, after looking it up."""


class Admission:
    """Asks for the jobs of one worker, all those of a claim in one call."""

    def __init__(self, keys: Keys, gate: Gate, decode: Callable[[Lease], tuple[str, Sequence[Any]] | None]) -> None:
        """`decode` gives the function and the arguments of a lease; None for a job that will not be run."""
        self._queue_keys: Final = keys
        self._commands: Final = JobCommands(keys)
        self._gate: Final = gate
        self._decode: Final = decode

    async def open(self, redis: Redis) -> None:
        await self._gate.open(redis, self._queue_keys)

    async def admit(self, runner: ScriptRunner, leases: list[Lease]) -> tuple[list[Lease], int]:
        """Those of `leases` that are to be started, some of them with `limit_later` set; and in how many ms a job that
        waits may be claimed, if that is news (else -1).
        """
        jobs: list[AdmitJob] = []
        for lease in leases:
            call = self._decode(lease)
            if call is None:
                continue
            limit = self._gate.limit_of(*call)
            if limit is None:
                lease.limit_later = not lease.abort_asked
            elif limit.key:
                lease.limit_key = limit.key
                deadline_ms = WILL_NOT_RUN if lease.abort_asked else limit.deadline_ms
                jobs.append(AdmitJob(lease.key, lease.token, limit.key, deadline_ms, limit.heeds))
        if not jobs:
            return leases, -1
        reply = await self._commands.admit(runner, jobs)
        refused, turn_ms = frozenset(reply.refused), reply.next_due_ms
        deadline_passed = frozenset(reply.deadline_passed)
        if deadline_passed:
            for lease in leases:
                lease.deadline_passed = lease.key in deadline_passed
        if not refused:
            return leases, turn_ms
        started = []
        for lease in leases:
            if lease.key in refused:
                lease.job = None  # they know each other, and no collector looks at them
            else:
                started.append(lease)
        return started, turn_ms

    async def wait_admitted(self, runner: ScriptRunner, lease: Lease) -> bool:
        """Whether a job with `limit_later` may go on, its key having been looked up."""
        lease.limit_later = False
        call = self._decode(lease)
        if call is None:
            return True
        limit = await self._gate.wait_limit_of(*call)
        if not limit.key:
            return True
        lease.limit_key = limit.key
        reply = await self._commands.admit(runner, [AdmitJob(lease.key, lease.token, *limit)])
        lease.deadline_passed = bool(reply.deadline_passed)
        return not reply.refused
