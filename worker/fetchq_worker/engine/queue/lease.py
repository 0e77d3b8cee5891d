"""Leases: what this worker holds, and the call that renews all of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import msgspec

from fetchq.store.engine_scripts import MAX_JOBS_A_CALL, Script
from fetchq.store.keys import Keys

logger = logging.getLogger("fetchq.engine")


class Lease(msgspec.Struct, eq=False, gc=False):
    """One job that this worker holds, from its claim to the hand-over of its outcome."""

    key: bytes
    """What Redis calls the job."""
    token: str
    """The fencing token of this claim. Only who knows it may renew, finish or give back the job."""
    payload: bytes | None
    """None: it is gone from Redis, is not a string there, or has been decoded."""
    score: int
    """When the job was due, in ms since the epoch; if `was_parked`, when that came."""
    tries: int
    """Which start of the job this is, from 1."""
    abort_asked: bool = False
    """Somebody asked for the job to be cancelled."""
    was_parked: bool = False
    """It has waited in the queue of its limit key."""
    id: str = ""
    """The job's id for people and contexts."""
    lost: bool = False
    """Another owner holds the job now: this run may change nothing."""
    timed_out: bool = False
    """The run took longer than it may, and was cancelled for it."""
    running: bool = False
    """The user's coroutine (or the start hook) has control: only then does cancelling the task mean the job."""
    task: asyncio.Task[None] | None = None
    job: Any = None
    """What was decoded of it before it started: a `run.Job`, or the `run.Unrunnable` that it turned out to be."""
    limit_key: str = ""
    """What its limits belong to, once that is known."""
    limit_later: bool = False
    """Its limit key takes time to find out: that is done in its slot."""
    deadline_passed: bool = False
    """It came under no limit since its deadline had passed, or its cancelling was asked for: it must not run."""
    traced: bool = False
    """Redis may hold more of the job than payload and lease: a count of its tries, or what a run of it left behind."""
    payload_bytes: int = 0
    """How long the payload is, or was."""

    def __post_init__(self) -> None:
        self.id = self.key.decode("utf-8", "replace")
        self.payload_bytes = len(self.payload or b"")

    def __repr__(self) -> str:
        return f"<Lease {self.id} token={self.token} try={self.tries} running={self.running} lost={self.lost}>"

    def expire(self) -> None:
        """Cancels the run since its timeout is over (`run.timeouts.Timeouts`)."""
        self.timed_out = True
        self.cancel()

    def cancel(self) -> None:
        """Cancels the run if it is in the user's hands; before that its first step looks, after that it is too late."""
        if self.running and self.task is not None:
            self.task.cancel()


class Leases:
    """The leases that this worker holds, by the job's key in Redis."""

    def __init__(self, keys: Keys, *, lease_ms: int) -> None:
        self._held: dict[bytes, Lease] = {}
        self._redis_keys: Final = (keys.pending, keys.leases, keys.lease_ends, *keys.frontier)
        self._prefixes: Final = (keys.in_progress, keys.waiting, keys.retry)
        self._lease_ms: Final = lease_ms
        self.renewed_at = 0.0
        """When the leases were last known to be good, on the loop's clock."""

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._held.values())

    def add(self, lease: Lease) -> None:
        """Takes a new lease in. A run of the same job that this worker still has is lost: its token was replaced."""
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

    async def renew(self, script: Script) -> None:
        """Renews all leases, and cancels the runs of those that have another owner."""
        now = asyncio.get_running_loop().time()
        leases = iter(tuple(self._held.values()))
        while batch := tuple(islice(leases, MAX_JOBS_A_CALL)):
            args: list[Any] = ["", self._lease_ms, *self._prefixes]
            for lease in batch:
                args += (lease.key, lease.token)
            lost = frozenset(await script(self._redis_keys, args))
            if lost:
                for lease in batch:
                    # One whose run has ended meanwhile has no lease any more because it is committed.
                    if lease.key in lost and self._held.get(lease.key) is lease:
                        self._lose(lease)
        self.renewed_at = now

    def _lose(self, lease: Lease) -> None:
        lease.lost = True
        logger.warning("lease.lost job=%s token=%s: another worker has it, this run ends", lease.id, lease.token)
        self.discard(lease)
        lease.cancel()
