"""Leases: the jobs that this worker holds, the states of each, and their renewal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from enum import IntEnum
from itertools import islice
from typing import Any, Final

import msgspec

from fetchq.store.commands import JobCommands
from fetchq.store.keys import Keys
from fetchq.store.runner import MAX_JOBS_A_CALL, ScriptRunner
from fetchq_worker.telemetry.events import LeaseLost
from fetchq_worker.telemetry.telemetry import Telemetry


class LeaseState(IntEnum):
    """The life of a lease in this worker."""

    CLAIMED = 0
    """The job is held; its run has not called the user's code yet."""
    RUNNING = 1
    """The user's code (the start hook or the coroutine) has control: cancelling the task cancels the job."""
    ENDED = 2
    """The user's code has returned, or is not called at all; the outcome is decided and committed."""
    LOST = 3
    """Another worker holds the job, or will: this run changes nothing any more."""


class LeaseEvent(IntEnum):
    """What happens to a lease."""

    START = 0
    """The user's code is about to be called."""
    CANCEL = 1
    """The run must end early, for a `CancelReason`."""
    LOSE = 2
    """The fencing token is not the job's any more."""
    END = 3
    """The user's code has returned or raised."""


class CancelReason(IntEnum):
    """Why a run is cancelled. Of several reasons the highest decides the outcome."""

    SHUTDOWN = 1
    """The worker stops: the job goes back to the queue and the try is not counted."""
    TIMEOUT = 2
    """The run takes longer than its function may: the job fails."""
    ABORT = 3
    """A client requested it: the job ends as cancelled."""


_CLAIMED, _RUNNING, _ENDED, _LOST = LeaseState

TRANSITIONS: Final[tuple[tuple[LeaseState | None, ...], ...]] = (
    # START, CANCEL, LOSE, END; None: it cannot happen.
    (_RUNNING, _CLAIMED, _LOST, _ENDED),  # CLAIMED
    (None, _RUNNING, _LOST, _ENDED),  # RUNNING
    (None, _ENDED, _ENDED, _ENDED),  # ENDED
    (None, _LOST, _LOST, _LOST),  # LOST
)
"""The next state by state and event. A cancellation changes no state: the run ends it. A lease that has ended is not
lost, since its outcome may be committed already, and the commit checks the token."""


class Lease(msgspec.Struct, eq=False, gc=False):
    """One job that this worker holds, from its claim until the committer has its outcome."""

    key: bytes
    """The job's id as Redis has it."""
    token: str
    """The fencing token of this claim. Renewing, finishing and returning the job require it."""
    payload: bytes | None
    """None: it is gone from Redis, is not a string there, or has been decoded."""
    score: int
    """When the job was due, in ms since the epoch; if `was_parked`, when it left the queue of its limit key."""
    tries: int
    """The number of this start of the job, from 1."""
    was_parked: bool = False
    """It has waited in the queue of its limit key."""
    lane: str = ""
    """`h` high, `l` low; empty: the default one."""
    id: str = ""
    """The job's id for people and contexts."""
    state: LeaseState = LeaseState.CLAIMED
    cancel_reason: CancelReason | None = None
    task: asyncio.Task[None] | None = None
    job: Any = None
    """The decoded job before its run starts: a `run.job.Job`, or the `run.job.Unrunnable` that decoding raised."""
    limit_key: str = ""
    """The key under whose limits the job runs, once that is known."""
    needs_limit_lookup: bool = False
    """Its limit key needs a look-up, which is done in the job's slot."""
    deadline_passed: bool = False
    """Admitted without limits, since its deadline has passed or it was aborted: it must not do its work."""
    has_extra_keys: bool = False
    """Redis may have more keys of the job than payload and lease: a retry key, or keys that an earlier run wrote."""
    due_before_parked_ms: int = 0
    """When a job that was parked was due; 0: not known, or it was not parked."""
    payload_bytes: int = 0
    """The length of the payload, also after it was decoded."""

    def __post_init__(self) -> None:
        self.id = self.key.decode("utf-8", "replace")
        self.payload_bytes = len(self.payload or b"")

    def __repr__(self) -> str:
        reason = f" cancelled={self.cancel_reason.name.lower()}" if self.cancel_reason else ""
        return f"<Lease {self.id} token={self.token} try={self.tries} {self.state.name.lower()}{reason}>"

    @property
    def aborted(self) -> bool:
        return self.cancel_reason is CancelReason.ABORT

    @property
    def due_ms(self) -> int:
        """When the job was due, in ms since the epoch, as far as it is known."""
        return self.due_before_parked_ms or self.score

    def apply(self, event: LeaseEvent) -> None:
        """Raises `RuntimeError` for an event that cannot happen in this state."""
        state = TRANSITIONS[self.state][event]
        if state is None:
            raise RuntimeError(f"{self!r} cannot {event.name.lower()}")
        self.state = state

    def cancel(self, reason: CancelReason) -> None:
        """Cancels the run if the user's code has control. Before that the run checks the reason itself."""
        if self.cancel_reason is None or self.cancel_reason < reason:
            self.cancel_reason = reason
        self.apply(LeaseEvent.CANCEL)
        self._cancel_task()

    def lose(self) -> None:
        """Ends the run without an outcome."""
        self._cancel_task()
        self.apply(LeaseEvent.LOSE)

    def expire(self) -> None:
        """Called by `run.timeouts.Timeouts`."""
        self.cancel(CancelReason.TIMEOUT)

    def _cancel_task(self) -> None:
        if self.state is LeaseState.RUNNING and self.task is not None:
            self.task.cancel()


class Leases:
    """The leases that this worker holds, by the job's key in Redis."""

    def __init__(self, keys: Keys, *, lease_ms: int, telemetry: Telemetry) -> None:
        self._telemetry: Final = telemetry
        self._held: dict[bytes, Lease] = {}
        self._commands: Final = JobCommands(keys)
        self._lease_ms: Final = lease_ms
        self.renewed_at = 0.0
        """When all leases were last renewed, on the loop's clock."""

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._held.values())

    def add(self, lease: Lease) -> None:
        """Adds a new lease. If this worker still runs the same job, that run is lost: its token was replaced."""
        if not self._held:
            self.renewed_at = asyncio.get_running_loop().time()
        old = self._held.get(lease.key)
        if old is not None:
            self._lose(old)
        self._held[lease.key] = lease

    def discard(self, lease: Lease) -> None:
        if self._held.get(lease.key) is lease:
            del self._held[lease.key]

    def get(self, key: bytes) -> Lease | None:
        return self._held.get(key)

    async def renew(self, runner: ScriptRunner) -> None:
        """Renews all leases, and cancels the runs of those that another worker holds."""
        now = asyncio.get_running_loop().time()
        leases = iter(tuple(self._held.values()))
        while batch := tuple(islice(leases, MAX_JOBS_A_CALL)):
            held = ((lease.key, lease.token) for lease in batch)
            lost = frozenset(await self._commands.renew(runner, held, lease_ms=self._lease_ms))
            if lost:
                for lease in batch:
                    # A run that ended meanwhile may have been committed, and then has no lease: it is not lost.
                    if lease.key in lost and self._held.get(lease.key) is lease:
                        self._lose(lease)
        self.renewed_at = now

    def _lose(self, lease: Lease) -> None:
        if lease.state is not LeaseState.ENDED:
            if self._telemetry.measures is not None:
                self._telemetry.measures.leases_lost += 1
            self._telemetry.events.publish(LeaseLost(job_id=lease.id, token=lease.token))
        lease.lose()
        self.discard(lease)
