"""Admission: a claimed job starts if its limit key has a free slot; otherwise it is parked in the key's own queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from redis.asyncio import Redis

from fetchq.contract.placement import KEY_PREFIX
from fetchq.store.commands import AdmitJob, JobCommands
from fetchq.store.keys import Keys
from fetchq.store.runner import ScriptRunner

from .lease import Lease

WILL_NOT_RUN: Final = "0"
"""A deadline in the past, for an aborted job: it is admitted without limits and ends at once."""


_LIMIT_KEY_FIELD: Final = b"limit_key"
"""In the payload of a job that names one."""


class Limit(NamedTuple):
    """The limits under which a job runs."""

    key: str
    """Its limit key; empty: none, it starts at once."""
    deadline_ms: str = ""
    """In ms since the epoch; empty: none."""
    also_respects: str = ""
    """Another limit key whose cooldown and pause also apply, but under which the job is not counted; empty: none."""


UNLIMITED: Final = Limit("")


class Gate(Protocol):
    """Names the limit key of each job. The engine does not know what a key means."""

    async def open(self, redis: Redis, keys: Keys) -> None:
        """Called once the worker is connected, before its start hook and its first claim."""

    def limit_of(self, name: str, args: Sequence[Any]) -> Limit | None:
        """The job's limit. Whether its deadline has passed is decided by Redis's clock.

        None if the key must be looked up first: then `wait_limit_of` is called once the job has a slot.
        """

    async def wait_limit_of(self, name: str, args: Sequence[Any]) -> Limit:
        """The same, after a look-up."""

    def due_ms_of(self, name: str, args: Sequence[Any], enqueue_time_ms: int) -> int:
        """When the first try of a job was due."""


class Call(Protocol):
    """A decoded job."""

    name: str
    args: Any
    enqueue_time_ms: int
    limit_key: str
    """The limit key in its payload; empty: none. It takes precedence over the gate's."""


class Admission:
    """Admits the jobs of one worker, all those of a claim in one call."""

    def __init__(self, keys: Keys, gate: Gate | None, decode: Callable[[Lease], Call | None]) -> None:
        """`decode` decodes the payload of a lease; None: the job will not be run."""
        self._queue_keys: Final = keys
        self._commands: Final = JobCommands(keys)
        self._gate: Final = gate
        self._decode: Final = decode
        self.lookups_follow = False
        """Some of the jobs that were admitted last have `needs_limit_lookup`."""

    async def open(self, redis: Redis) -> None:
        if self._gate is not None:
            await self._gate.open(redis, self._queue_keys)

    async def admit(self, runner: ScriptRunner, leases: list[Lease]) -> tuple[list[Lease], int]:
        """The leases to start, and in how many ms a parked job becomes due (-1: no earlier than was known).

        Leases whose limit key must be looked up have `needs_limit_lookup` set.
        """
        jobs: list[AdmitJob] = []
        gate = self._gate
        self.lookups_follow = False
        # Without a gate, only jobs whose payloads name a limit key are decoded before they run.
        limited = leases if gate is not None else [lease for lease in leases if _names_limit_key(lease)]
        for lease in limited:
            call = self._decode(lease)
            limit: Limit | None = UNLIMITED
            if call is not None and call.limit_key:
                limit = Limit(KEY_PREFIX + call.limit_key)
            elif call is not None and gate is not None:
                limit = gate.limit_of(call.name, call.args)
            if limit is None:
                lease.needs_limit_lookup = not lease.aborted
                self.lookups_follow = True
            elif limit.key:
                lease.limit_key = limit.key
                deadline_ms = WILL_NOT_RUN if lease.aborted else limit.deadline_ms
                jobs.append(AdmitJob(lease.key, lease.token, limit.key, deadline_ms, limit.also_respects))
        if not jobs:
            return leases, -1
        reply = await self._commands.admit(runner, jobs)
        parked, due_ms = frozenset(reply.refused), reply.next_due_ms
        deadline_passed = frozenset(reply.deadline_passed)
        if deadline_passed:
            for lease in leases:
                lease.deadline_passed = lease.key in deadline_passed
        if not parked:
            return leases, due_ms
        started = []
        for lease in leases:
            if lease.key in parked:
                lease.job = None  # lease and job refer to each other, and neither is tracked by the garbage collector
            else:
                started.append(lease)
        return started, due_ms

    def note_due(self, lease: Lease) -> None:
        """Finds out when a job that was parked was due; not for later tries, whose delays are not recorded."""
        call = self._decode(lease) if lease.was_parked and lease.tries == 1 else None
        if call is not None:
            due_ms = call.enqueue_time_ms
            if self._gate is not None:
                due_ms = self._gate.due_ms_of(call.name, call.args, due_ms)
            lease.due_before_parked_ms = min(lease.score, due_ms)

    async def wait_admitted(self, runner: ScriptRunner, lease: Lease) -> bool:
        """Looks up the limit key of a job with `needs_limit_lookup`.

        Returns whether it may start; if not, it is parked already.
        """
        lease.needs_limit_lookup = False
        call = self._decode(lease)
        if call is None or self._gate is None:
            return True
        limit = await self._gate.wait_limit_of(call.name, call.args)
        if not limit.key:
            return True
        lease.limit_key = limit.key
        reply = await self._commands.admit(runner, [AdmitJob(lease.key, lease.token, *limit)])
        lease.deadline_passed = bool(reply.deadline_passed)
        return not reply.refused


def _names_limit_key(lease: Lease) -> bool:
    return lease.payload is not None and _LIMIT_KEY_FIELD in lease.payload
