"""Claims: one call takes as many due jobs as there are free slots."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from fetchq.store.commands import ClaimReply, JobCommands
from fetchq.store.errors import REDIS_ERRORS
from fetchq.store.keys import Keys
from fetchq.store.runner import ScriptRunner
from fetchq.store.scores import due_of

from .admission import Admission
from .lease import CancelReason, Lease
from .waits import Waits

logger = logging.getLogger("fetchq.engine")

MAX_CLAIM_BYTES: Final = 16 << 20
"""Maximum bytes of payloads in one claim; the last job may exceed it."""

MAX_UNACKNOWLEDGED: Final = 64

LANES: Final = (*("hdl",) * 12, *("dhl",) * 3, "lhd")
"""The order in which each call reads the lanes: in one call of four, `high` is not the first."""
COUNTER_DIGITS: Final = 24
"""Enough to make each lease record longer than 64 bytes: a hash with shorter values is a listpack, which Redis scans
from the beginning for each job that is claimed or committed (redis.conf, `hash-max-listpack-value`)."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """The reply of one claim."""

    leases: list[Lease]
    queued: int
    """The number of jobs that are pending or running, in any worker."""
    more: bool
    """Due jobs are left."""
    next_due_s: float | None
    """In how many seconds the next job is due, or the next lease ends."""


class Claimer:
    """Claims jobs for one worker, each call under a new fencing token."""

    def __init__(
        self,
        keys: Keys,
        *,
        worker_id: str,
        lease_ms: int,
        default_payload_ttl_ms: int,
        check_aborts: bool,
        admission: Admission | None = None,
        waits: Waits | None = None,
    ) -> None:
        """`waits` measures how long claimed jobs have waited."""
        self._commands: Final = JobCommands(keys)
        self._default_payload_ttl_ms: Final = default_payload_ttl_ms
        self._check_aborts: Final = check_aborts
        self._admission: Final = admission
        self._waits: Final = waits
        self._worker_id: Final = worker_id
        self._lease_ms: Final = lease_ms
        self._calls = 0
        self._offset = 0
        self._unacknowledged: tuple[str, ...] = ()
        """Tokens of calls whose reply was lost: Redis may have executed them."""
        self.clock_behind_s = 0.0
        """By how much this machine's clock is behind Redis's, less the transfer time of the last claim's reply."""

    async def claim(
        self,
        runner: ScriptRunner,
        count: int,
        *,
        only: Sequence[bytes | str] = (),
        on_sent: Callable[[], None] | None = None,
    ) -> Claim:
        """Claims up to `count` due jobs that may start now; with `only`, from among these ids."""
        if self._unacknowledged:
            await self._return_claims(runner)
        self._calls += 1
        token = f"{self._worker_id}.{self._calls:0{COUNTER_DIGITS}x}"
        try:
            reply = await self._commands.claim(
                runner,
                token=token,
                lease_ms=self._lease_ms,
                count=count,
                max_bytes=MAX_CLAIM_BYTES,
                default_payload_ttl_ms=self._default_payload_ttl_ms,
                check_aborts=self._check_aborts,
                offset=0 if only else self._offset,
                lanes=LANES[self._calls % len(LANES)],
                only=only,
                on_sent=on_sent,
            )
            self.clock_behind_s = reply.clock_ms / 1000 - time.time()
            leases, wait_ms = _leases(token, reply), reply.wait_ms
            if leases and self._admission is not None:
                leases, due_ms = await self._admission.admit(runner, leases)
                if due_ms >= 0 and (wait_ms is None or wait_ms > due_ms):
                    wait_ms = due_ms
        except REDIS_ERRORS:
            self._unacknowledged = (*self._unacknowledged, token)[-MAX_UNACKNOWLEDGED:]
            raise
        if not only:
            self._offset = reply.offset
        if leases and self._waits is not None:
            self._measure_waits(self._waits, leases, reply)
        return Claim(leases, reply.queued, reply.more, None if wait_ms is None else wait_ms / 1000)

    def _measure_waits(self, waits: Waits, leases: list[Lease], reply: ClaimReply) -> None:
        now_ms = (time.time() + self.clock_behind_s) * 1000
        first = leases[0]
        is_same = len(reply.scores) == 1 and not (first.was_parked or reply.reported)
        if is_same and not (self._admission is not None and self._admission.lookups_follow):
            waits.add_same(first, now_ms, len(leases))  # the common case, once for all jobs
        else:
            waits.add(leases, now_ms)

    def measure_wait(self, lease: Lease) -> None:
        """Measures the wait of a job that was admitted after a look-up."""
        if self._waits is not None:
            self._waits.add((lease,), (time.time() + self.clock_behind_s) * 1000)

    async def _return_claims(self, runner: ScriptRunner) -> None:
        """Requeues the jobs of claims whose reply was lost, which otherwise would wait until their leases end."""
        count = await self._commands.return_claims(runner, self._unacknowledged)
        self._unacknowledged = ()
        if count:
            logger.warning("claim.returned jobs=%d: the reply of the claim was lost", count)


def _leases(token: str, reply: ClaimReply) -> list[Lease]:
    if len(reply.scores) == 1:
        due_ms, was_parked, lane = due_of(reply.scores[0])
        jobs = zip(reply.ids, reply.payloads, strict=True)
        leases = [Lease(key, token, payload, due_ms, 1, was_parked, lane) for key, payload in jobs]
    else:
        leases = []
        for key, payload, score in zip(reply.ids, reply.payloads, reply.scores, strict=True):
            due_ms, was_parked, lane = due_of(score)
            leases.append(Lease(key, token, payload, due_ms, 1, was_parked, lane))
    for place, tries, abort_requested in reply.reported:
        lease = leases[place]
        lease.tries, lease.has_extra_keys = tries, True
        if abort_requested:
            lease.cancel(CancelReason.ABORT)
    return leases
