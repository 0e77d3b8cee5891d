"""Committing: the outcomes of many jobs in one call, a moment after the first of them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from fetchq.contract.job_ids import PUSH_PREFIX_LEN
from fetchq.store.engine_scripts import MAX_JOBS_A_CALL, REDIS_ERRORS, Script
from fetchq.store.keys import Keys
from fetchq.tasks import cancel_and_wait
from fetchq_worker.engine.run.dead_letters import DeadLetters

from .lease import Lease

logger = logging.getLogger("fetchq.engine")

MAX_COMMIT_BYTES: Final = 8 << 20
"""Results and dead letters that one call writes, at most; a larger one goes alone."""
FULL_BATCH: Final = 256
"""A batch of so many goes out without waiting for more."""
FIRST_BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 0.5
"""Short: when Redis is back, finished work must be there before another worker takes it for a dead one's."""


class Action(StrEnum):
    """What becomes of a job."""

    FINISH = "finish"
    CLEAN = "clean"
    """Finished in its first try, of which Redis holds nothing but the lease: there is less to remove."""
    MISSING = "missing"
    """Finished for want of a payload. A result that is there stays: a finished job's id was put back on the queue."""
    RETRY = "retry"
    RELEASE = "release"
    """Back to the queue, the try not counted."""
    RELEASE_TRACED = "release_traced"
    """The same, of a job whose run has left something behind: the lease under which it ends is to know of that."""


_LAST: Final = (Action.CLEAN, Action.FINISH, Action.MISSING)


class Outcome(msgspec.Struct, eq=False, gc=False):
    """What became of one run."""

    lease: Lease
    action: Action
    result: bytes = b""
    result_ttl_ms: int | None = 0
    """How long the result is kept; None for ever, 0 not at all."""
    defer_ms: int | None = None
    """In how many ms a job that goes back is due; None at its original score."""
    marker_ms: int | None = None
    """How long the in-progress key outlasts the job: arq's guard against a cron job that runs twice."""
    note: str = ""
    """What the run says of its limit key: `+` well, `-` not reached, `=` neither; then a word for people."""
    letter: bytes = b""
    """What the dead letter of a job that ends here is to say; empty: it has none."""
    committed: asyncio.Future[None] | None = None
    """Set by who waits for the commit; done when it is in Redis."""
    size_bytes: int = 0
    """What it is to Redis, as the committer finds: the result, and a letter with its copy of the payload."""


class Committer:
    """Collects outcomes and commits them together, `delay_s` after the first at the latest.

    While Redis is away they wait here. How many may wait is for the worker to bound: it claims no more while the
    committer says that `claims_wait`, or when much is waiting.
    """

    def __init__(
        self, keys: Keys, dead: DeadLetters, *, delay_s: float, on_commit: Callable[[float | None], None]
    ) -> None:
        """`on_commit` is called after each commit, with the seconds until a job may be due earlier than was known."""
        own = (keys.pending, keys.leases, keys.lease_ends, keys.abort, keys.wake)
        self._redis_keys: Final = (*own, *keys.frontier, keys.dead)
        prefixes = (keys.job, keys.retry, keys.in_progress, keys.result, keys.attempts, keys.done)
        letters = (keys.dead_letter, dead.ttl_ms, dead.most)
        self._head: Final = ("", *prefixes, PUSH_PREFIX_LEN, keys.waiting, *letters)
        self._delay_s: Final = delay_s
        self._on_commit: Final = on_commit
        self._waiting: deque[Outcome] = deque()
        self._in_flight = 0
        self._timer: asyncio.TimerHandle | None = None
        self._sender: asyncio.Task[None] | None = None
        self._script: Script | None = None
        self.waiting_bytes = 0
        self._claims_wait_until = 0.0
        self.stalled = False
        """The last call failed. Until one succeeds, claiming could take this worker's own finished jobs again."""

    @property
    def backlog(self) -> int:
        """How many outcomes are not committed yet."""
        return len(self._waiting) + self._in_flight

    @property
    def claims_wait(self) -> bool:
        """Whether a claim could take finished work: this worker's, or, just after an outage, that of others.

        Their commits are tried again within `MAX_BACKOFF_S`; an outage may have been longer than their leases.
        """
        return self.stalled or asyncio.get_running_loop().time() < self._claims_wait_until

    def use(self, script: Script) -> None:
        self._script = script

    def add(self, outcome: Outcome, *, now: bool = False) -> None:
        """Takes an outcome in; it is committed within the delay, or `now` as soon as the loop turns."""
        outcome.size_bytes = len(outcome.result)
        if outcome.letter:
            outcome.size_bytes += len(outcome.letter) + outcome.lease.payload_bytes
        self._waiting.append(outcome)
        self.waiting_bytes += outcome.size_bytes
        if self._sender is not None:
            return
        if now or len(self._waiting) >= FULL_BATCH or self.waiting_bytes >= MAX_COMMIT_BYTES:
            self._start_sender()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay_s, self._start_sender)

    async def wait_committed(self, outcome: Outcome) -> None:
        """Returns when the outcome is in Redis, or has turned out to be another owner's to decide."""
        if outcome.committed is None:
            outcome.committed = asyncio.get_running_loop().create_future()
        await outcome.committed

    async def flush(self) -> None:
        """Commits all that waits, without delay; returns when it is in Redis."""
        while self.backlog:
            self._start_sender()
            if self._sender is not None:
                await asyncio.wait([self._sender])

    async def aclose(self) -> None:
        """Drops what still waits: the ends of the leases bring those jobs back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sender is not None:
            await cancel_and_wait(self._sender)
        if self._waiting:
            logger.error("commit.dropped jobs=%d: Redis is away; they run again when their leases end", self.backlog)
            self._waiting.clear()
            self.waiting_bytes = 0

    def _start_sender(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sender is None and self._waiting and self._script is not None:
            self._sender = asyncio.get_running_loop().create_task(self._send(self._script), name="fetchq-commit")

    async def _send(self, script: Script) -> None:
        backoff_s = FIRST_BACKOFF_S
        try:
            while self._waiting:
                batch = self._take_batch()
                left, problem = batch, ""
                try:
                    left, problem = await self._commit(script, batch)
                except REDIS_ERRORS as error:
                    problem = str(error) or type(error).__name__
                finally:
                    self._put_back(left)
                self._note(problem)
                if problem:
                    await asyncio.sleep(backoff_s)
                    backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
                else:
                    backoff_s = FIRST_BACKOFF_S
        finally:
            self._sender = None

    def _take_batch(self) -> list[Outcome]:
        """The next outcomes, bounded by number and bytes; always one at least."""
        batch: list[Outcome] = []
        size = 0
        while self._waiting and len(batch) < MAX_JOBS_A_CALL:
            size += self._waiting[0].size_bytes
            if batch and size > MAX_COMMIT_BYTES:
                break
            batch.append(self._waiting.popleft())
        self._in_flight = len(batch)
        return batch

    def _put_back(self, left: list[Outcome]) -> None:
        self._in_flight = 0
        self._waiting.extendleft(reversed(left))

    async def _commit(self, script: Script, batch: list[Outcome]) -> tuple[list[Outcome], str]:
        """Commits a batch. Returns the outcomes that Redis would not store, and why."""
        lost, refused, refusal, turn_ms = await script(self._redis_keys, [*self._head, *_said(batch)])
        if lost:
            # After a call that broke, the first of two equal commits may have committed, and this one finds no lease.
            level = logging.INFO if self.stalled else logging.WARNING
            logger.log(level, "commit.lost jobs=%d first=%r: their leases are not this worker's", len(lost), lost[0])
        left = [outcome for outcome in batch if outcome.lease.key in refused] if refused else []
        self._complete(batch, left, None if turn_ms < 0 else turn_ms)
        return left, refusal.decode("utf-8", "replace")

    def _complete(self, batch: list[Outcome], left: list[Outcome], next_due_ms: int | None) -> None:
        for outcome in batch:
            if left and outcome in left:
                continue
            self.waiting_bytes -= outcome.size_bytes
            if outcome.action not in _LAST:
                due_ms = outcome.defer_ms or 0
                next_due_ms = due_ms if next_due_ms is None else min(next_due_ms, due_ms)
            if outcome.committed is not None and not outcome.committed.done():
                outcome.committed.set_result(None)
        self._on_commit(None if next_due_ms is None else next_due_ms / 1000)

    def _note(self, problem: str) -> None:
        """Logs once that commits wait, and once that they go on."""
        if problem and not self.stalled:
            logger.warning("commit.waits jobs=%d: %s", self.backlog, problem)
        elif self.stalled and not problem:
            logger.warning("commit.resumed")
            self._claims_wait_until = asyncio.get_running_loop().time() + MAX_BACKOFF_S
        self.stalled = bool(problem)


def _said(batch: Sequence[Outcome]) -> Iterator[Any]:
    """The outcomes as `commit.lua` takes them: what many of them have in common is said once.

    Notes keep the order in which the runs ended, since the frontier counts failures in a row. The order of outcomes
    without a note says nothing, nor does that of equal notes with no other between them.
    """
    alike: dict[tuple[Any, ...], list[bytes]] = {}
    turn, note = 0, ""
    for outcome in batch:
        lease, action = outcome.lease, outcome.action
        time = outcome.result_ttl_ms if action in _LAST else outcome.defer_ms
        if outcome.note and outcome.note != note:
            turn, note = turn + 1, outcome.note
        own_turn = turn if outcome.note else 0
        common = (own_turn, lease.token, action, time, outcome.marker_ms, outcome.note, outcome.letter)
        jobs = alike.get(common)
        if jobs is None:
            alike[common] = [lease.key, outcome.result]
        else:
            jobs += (lease.key, outcome.result)
    for (_, *common_parts), jobs in alike.items():
        yield len(jobs) // 2
        for part in common_parts:
            yield "" if part is None else part
        yield from jobs
