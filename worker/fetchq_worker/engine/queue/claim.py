"""Claiming: one call that takes as many due jobs as there are free slots."""

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
from .lease import Lease

logger = logging.getLogger("fetchq.engine")

MAX_CLAIM_BYTES: Final = 16 << 20
"""Payloads that one claim brings, at most: one more job may go over it."""

MAX_UNACKNOWLEDGED: Final = 64

_PARKED_DIGITS: Final = 16
"""Scores of so many digits are of parked jobs."""

LANES: Final = (*("hdl",) * 12, *("dhl",) * 3, "lhd")
"""In which order a claim looks at the lanes, call by call: one in four leaves the first place to another lane."""
COUNTER_DIGITS: Final = 24
"""So many that no lease's record is as short as 64 bytes: of shorter ones Redis makes a list, and goes through it from
the beginning for each job that is claimed or committed (redis.conf, `hash-max-listpack-value`)."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What one claim brought."""

    leases: list[Lease]
    queued: int
    """How many jobs are pending or running, whoever holds them."""
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
        self._passed = 0
        self._unacknowledged: tuple[str, ...] = ()
        """Tokens of calls that failed on the way: carried out or not, nobody knows."""
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
        """Takes up to `count` due jobs that may start now; with `only`, from among these ids."""
        if self._unacknowledged:
            await self._give_back(scripts.give_back)
        self._calls += 1
        token = f"{self._worker_id}.{self._calls:0{COUNTER_DIGITS}x}"
        try:
            passed = 0 if only else self._passed
            lanes = LANES[self._calls % len(LANES)]
            args = ("", token, self._lease_ms, count, MAX_CLAIM_BYTES, passed, *self._rest, lanes, *only)
            queued, more, wait_ms, passed, clock_ms, *jobs = await scripts.claim(self._keys, args, on_sent=on_sent)
            self.clock_behind_s = clock_ms / 1000 - time.time()
            leases = _leases(token, *jobs)
            if leases and self._admission is not None:
                leases, turn_ms = await self._admission.admit(scripts, leases)
                if turn_ms >= 0 and not 0 <= wait_ms <= turn_ms:
                    wait_ms = turn_ms
        except REDIS_ERRORS:
            self._unacknowledged = (*self._unacknowledged, token)[-MAX_UNACKNOWLEDGED:]
            raise
        if not only:
            self._passed = passed
        return Claim(leases, queued, more == 1, None if wait_ms < 0 else wait_ms / 1000)

    async def _give_back(self, script: Script) -> None:
        """A claim whose reply was lost may have taken jobs: nobody runs them, and their leases are long."""
        count = await script(self._lease_keys, ("", *self._prefixes, *self._unacknowledged))
        self._unacknowledged = ()
        if count:
            logger.warning("claim.given_back jobs=%d: the reply of the claim was lost", count)


def _leases(
    token: str, ids: list[bytes], payloads: list[bytes | None], scores: list[bytes], unlike_most: list[int]
) -> list[Lease]:
    """What `claim.lua` says of the jobs that it claimed."""
    if len(scores) == 1:
        due_ms, was_parked = _due_ms(scores[0])
        leases = [
            Lease(key, token, payload, due_ms, 1, False, was_parked) for key, payload in zip(ids, payloads, strict=True)
        ]
    else:
        leases = []
        for key, payload, score in zip(ids, payloads, scores, strict=True):
            due_ms, was_parked = _due_ms(score)
            leases.append(Lease(key, token, payload, due_ms, 1, False, was_parked))
    fields = iter(unlike_most)
    for place, tries, aborted in zip(fields, fields, fields, strict=True):
        lease = leases[place]
        lease.tries, lease.abort_asked, lease.traced = tries, aborted == 1, True
    return leases


def _due_ms(score: bytes) -> tuple[int, bool]:
    """When the job was due, and whether it has waited for its limits since."""
    if score.isdigit() and len(score) < _PARKED_DIGITS:
        return int(score), False  # as nearly all are
    place = read_score(float(score))
    return place.due_ms, place.was_parked
