"""Claims: one call takes as many due jobs as there are free slots."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from fetchq.store.engine_scripts import REDIS_ERRORS, Script, Scripts
from fetchq.store.keys import Keys
from fetchq.store.scores import read_score

from .admission import Admission
from .lease import CancelReason, Lease

logger = logging.getLogger("fetchq.engine")

MAX_CLAIM_BYTES: Final = 16 << 20
"""The payloads of one claim, at most; the last job may exceed it."""

MAX_UNACKNOWLEDGED: Final = 64

_PARKED_DIGITS: Final = 16
"""Scores with at least this many digits are those of parked jobs."""

LANES: Final = (*("hdl",) * 12, *("dhl",) * 3, "lhd")
"""The order in which a claim looks at the lanes, call by call: in one call of four, `high` is not the first."""
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
    """Claims jobs for one worker, each call under a fencing token of its own."""

    def __init__(
        self,
        keys: Keys,
        *,
        worker_id: str,
        lease_ms: int,
        default_life_ms: int,
        look_at_aborts: bool,
        admission: Admission | None = None,
    ) -> None:
        own = (keys.pending, keys.leases, keys.lease_ends, keys.abort, keys.wake, keys.paused)
        self._keys: Final = (*own, *keys.frontier)
        self._lease_keys: Final = (keys.pending, keys.leases, keys.lease_ends, keys.wake, *keys.frontier)
        self._prefixes: Final = (keys.job, keys.retry, keys.in_progress, keys.waiting)
        self._rest: Final = (default_life_ms, "1" if look_at_aborts else "", *self._prefixes)
        self._admission: Final = admission
        self._worker_id: Final = worker_id
        self._lease_ms: Final = lease_ms
        self._calls = 0
        self._offset = 0
        self._unacknowledged: tuple[str, ...] = ()
        """Tokens of calls whose reply was lost: Redis may have carried them out."""
        self.clock_behind_s = 0.0
        """By how much this machine's clock is behind Redis's, less the time that the reply of the last claim took."""

    async def claim(
        self,
        scripts: Scripts,
        count: int,
        *,
        only: Sequence[bytes | str] = (),
        on_sent: Callable[[], None] | None = None,
    ) -> Claim:
        """Claims up to `count` due jobs that may start now; with `only`, from among these ids."""
        if self._unacknowledged:
            await self._return_claims(scripts.give_back)
        self._calls += 1
        token = f"{self._worker_id}.{self._calls:0{COUNTER_DIGITS}x}"
        try:
            offset = 0 if only else self._offset
            lanes = LANES[self._calls % len(LANES)]
            args = ("", token, self._lease_ms, count, MAX_CLAIM_BYTES, offset, *self._rest, lanes, *only)
            queued, more, wait_ms, offset, clock_ms, *jobs = await scripts.claim(self._keys, args, on_sent=on_sent)
            self.clock_behind_s = clock_ms / 1000 - time.time()
            leases = _leases(token, *jobs)
            if leases and self._admission is not None:
                leases, due_ms = await self._admission.admit(scripts, leases)
                if due_ms >= 0 and not 0 <= wait_ms <= due_ms:
                    wait_ms = due_ms
        except REDIS_ERRORS:
            self._unacknowledged = (*self._unacknowledged, token)[-MAX_UNACKNOWLEDGED:]
            raise
        if not only:
            self._offset = offset
        return Claim(leases, queued, more == 1, None if wait_ms < 0 else wait_ms / 1000)

    async def _return_claims(self, script: Script) -> None:
        """Returns the jobs of claims whose reply was lost: else they would wait for the ends of their leases."""
        count = await script(self._lease_keys, ("", *self._prefixes, *self._unacknowledged))
        self._unacknowledged = ()
        if count:
            logger.warning("claim.returned jobs=%d: the reply of the claim was lost", count)


def _leases(
    token: str, ids: list[bytes], payloads: list[bytes | None], scores: list[bytes], unlike_most: list[int]
) -> list[Lease]:
    """The jobs in a reply of `claim.lua`. `scores` holds one score for all, or one for each."""
    if len(scores) == 1:
        due_ms, was_parked = _due_ms(scores[0])
        leases = [Lease(key, token, payload, due_ms, 1, was_parked) for key, payload in zip(ids, payloads, strict=True)]
    else:
        leases = []
        for key, payload, score in zip(ids, payloads, scores, strict=True):
            due_ms, was_parked = _due_ms(score)
            leases.append(Lease(key, token, payload, due_ms, 1, was_parked))
    fields = iter(unlike_most)
    for place, tries, aborted in zip(fields, fields, fields, strict=True):
        lease = leases[place]
        lease.tries, lease.has_extra_keys = tries, True
        if aborted:
            lease.cancel(CancelReason.ABORT)
    return leases


def _due_ms(score: bytes) -> tuple[int, bool]:
    """When the job was due, and whether it has waited for its limits since."""
    if score.isdigit() and len(score) < _PARKED_DIGITS:
        return int(score), False  # as nearly all are
    place = read_score(float(score))
    return place.due_ms, place.was_parked
