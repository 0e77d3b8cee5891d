"""Commits the outcomes of many jobs in one call, a few ms after the first of them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from fetchq.store.commands import CommitGroup, JobCommands
from fetchq.store.errors import REDIS_ERRORS, reason_of
from fetchq.store.keys import Keys
from fetchq.store.runner import MAX_JOBS_A_CALL, ScriptRunner
from fetchq.tasks import cancel_and_wait
from fetchq_worker.telemetry.events import CircuitOpened
from fetchq_worker.telemetry.telemetry import Telemetry

from .outcome import ENDING, Outcome

logger = logging.getLogger("fetchq.engine")

MAX_COMMIT_BYTES: Final = 8 << 20
"""Maximum bytes of results and dead letters in one call; a larger one is sent alone."""
FULL_BATCH: Final = 256
"""A batch of this size is sent without waiting for more."""
FIRST_BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 0.5
"""Short: after an outage, finished work must be committed before another worker claims it as a dead worker's."""


class Committer:
    """Collects outcomes and commits them together, at most `delay_s` after the first.

    While Redis is unavailable, outcomes wait here. Their number is bounded: the worker claims nothing while
    `claims_wait` is true or too many outcomes wait.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        dead_letter_ttl_ms: int,
        dead_letter_max: int,
        delay_s: float,
        on_commit: Callable[[float | None], None],
        telemetry: Telemetry,
        counts_ends: bool = True,
    ) -> None:
        """`on_commit` is called after each commit with the seconds until its first job is due again; None: none is.

        `counts_ends`: a commit counts the jobs that it ends, by `Outcome.figure`.
        """
        self._commands: Final = JobCommands(keys)
        self._dead_letter_ttl_ms: Final = dead_letter_ttl_ms
        self._dead_letter_max: Final = dead_letter_max
        self._delay_s: Final = delay_s
        self._counts_ends: Final = counts_ends
        self._on_commit: Final = on_commit
        self._telemetry: Final = telemetry
        self._waiting: deque[Outcome] = deque()
        self._in_flight = 0
        self._timer: asyncio.TimerHandle | None = None
        self._sender: asyncio.Task[None] | None = None
        self._runner: ScriptRunner | None = None
        self.waiting_bytes = 0
        self._claims_wait_until = 0.0
        self.stalled = False
        """The last call failed. Until one succeeds, a claim could take this worker's own finished jobs."""

    @property
    def backlog(self) -> int:
        """The number of outcomes that are not committed yet."""
        return len(self._waiting) + self._in_flight

    @property
    def claims_wait(self) -> bool:
        """Whether a claim could take finished jobs: this worker's own or, just after an outage, other workers'.

        Other workers repeat their commits within `MAX_BACKOFF_S`; the outage may have been longer than their leases.
        """
        return self.stalled or asyncio.get_running_loop().time() < self._claims_wait_until

    def use(self, runner: ScriptRunner) -> None:
        self._runner = runner

    def add(self, outcome: Outcome, *, now: bool = False) -> None:
        """Commits an outcome within the delay; with `now`, in the loop's next iteration."""
        outcome.size_bytes = len(outcome.result)
        if outcome.dead_letter:
            outcome.size_bytes += len(outcome.dead_letter) + outcome.lease.payload_bytes
        self._waiting.append(outcome)
        self.waiting_bytes += outcome.size_bytes
        if self._sender is not None:
            return
        if now or len(self._waiting) >= FULL_BATCH or self.waiting_bytes >= MAX_COMMIT_BYTES:
            self._start_sender()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay_s, self._start_sender)

    def hold(self, outcome: Outcome) -> None:
        """Keeps an outcome until `flush`, for an event loop that ends: no task is started in it."""
        self._waiting.append(outcome)

    @property
    def unsent(self) -> tuple[Outcome, ...]:
        return tuple(self._waiting)

    async def wait_committed(self, outcome: Outcome) -> None:
        """Returns when the outcome is in Redis, or was refused because another owner holds the job."""
        if outcome.committed is None:
            outcome.committed = asyncio.get_running_loop().create_future()
        await outcome.committed

    async def flush(self) -> None:
        """Commits all waiting outcomes without delay; returns when they are in Redis."""
        while self.backlog:
            self._start_sender()
            if self._sender is not None:
                await asyncio.wait([self._sender])

    async def commit_apart(self, runner: ScriptRunner, others: Iterable[Outcome]) -> int:
        """Commits `others` and what waits here, on a connection of another event loop. Returns their number.

        For a process that ends while its own event loop is blocked: nothing here is changed.
        """
        outcomes = [*self._waiting, *others]
        for start in range(0, len(outcomes), MAX_JOBS_A_CALL):
            batch = outcomes[start : start + MAX_JOBS_A_CALL]
            await self._commands.commit(
                runner,
                _groups(batch, self._counts_ends),
                dead_letter_ttl_ms=self._dead_letter_ttl_ms,
                max_dead_letters=self._dead_letter_max,
            )
        return len(outcomes)

    async def aclose(self) -> None:
        """Drops the outcomes that still wait: their jobs run again when their leases end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sender is not None:
            await cancel_and_wait(self._sender)
        if self._waiting:
            logger.error(
                "commit.dropped jobs=%d: Redis is unavailable; they run again when their leases end", self.backlog
            )
            self._waiting.clear()
            self.waiting_bytes = 0

    def _start_sender(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sender is None and self._waiting and self._runner is not None:
            self._sender = asyncio.get_running_loop().create_task(self._send(self._runner), name="fetchq-commit")

    async def _send(self, runner: ScriptRunner) -> None:
        backoff_s = FIRST_BACKOFF_S
        try:
            while self._waiting:
                batch = self._take_batch()
                uncommitted, problem = batch, ""
                try:
                    uncommitted, problem = await self._commit(runner, batch)
                except REDIS_ERRORS as error:
                    problem = reason_of(error)
                except Exception as error:  # a reply that no script of ours gives: it must not end all commits
                    problem = f"{type(error).__name__}: {error}"
                    if not self.stalled:
                        logger.exception("commit.failed jobs=%d: its reply cannot be read", len(batch))
                finally:
                    self._put_back(uncommitted)
                self._log_stall(problem)
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

    def _put_back(self, uncommitted: list[Outcome]) -> None:
        self._in_flight = 0
        self._waiting.extendleft(reversed(uncommitted))

    async def _commit(self, runner: ScriptRunner, batch: list[Outcome]) -> tuple[list[Outcome], str]:
        """Commits a batch. Returns the outcomes that Redis did not store, and why."""
        lost, refused, refusal, due_ms, opened = await self._commands.commit(
            runner,
            _groups(batch, self._counts_ends),
            dead_letter_ttl_ms=self._dead_letter_ttl_ms,
            max_dead_letters=self._dead_letter_max,
        )
        if lost:
            # After a broken call this may be a repetition: the first call may have committed and removed the leases.
            level = logging.INFO if self.stalled else logging.WARNING
            if not self.stalled and self._telemetry.measures is not None:
                self._telemetry.measures.leases_lost += len(lost)
            first = lost[0].decode("utf-8", "replace")
            logger.log(level, "commit.lost jobs=%d first=%s: another worker holds their leases", len(lost), first)
        if opened:
            self._publish_opened(opened)
        uncommitted = [outcome for outcome in batch if outcome.lease.key in refused] if refused else []
        self._complete(batch, uncommitted, None if due_ms < 0 else due_ms)
        why = refusal.decode("utf-8", "replace")
        return uncommitted, reason_of(ResponseError(why)) if why else ""

    def _complete(self, batch: list[Outcome], uncommitted: list[Outcome], next_due_ms: int | None) -> None:
        for outcome in batch:
            if uncommitted and outcome in uncommitted:
                continue
            self.waiting_bytes -= outcome.size_bytes
            if outcome.action not in ENDING:
                due_ms = outcome.defer_ms or 0
                next_due_ms = due_ms if next_due_ms is None else min(next_due_ms, due_ms)
            if outcome.committed is not None and not outcome.committed.done():
                outcome.committed.set_result(None)
        self._on_commit(None if next_due_ms is None else next_due_ms / 1000)

    def _log_stall(self, problem: str) -> None:
        """Logs once when commits begin to fail, and once when they succeed again."""
        if problem and not self.stalled:
            logger.warning("commit.delayed jobs=%d error=%s", self.backlog, problem)
        elif self.stalled and not problem:
            logger.warning("commit.resumed")
            self._claims_wait_until = asyncio.get_running_loop().time() + MAX_BACKOFF_S
        self.stalled = bool(problem)

    def _publish_opened(self, opened: Sequence[Any]) -> None:
        for key, failures, open_ms in zip(opened[::3], opened[1::3], opened[2::3], strict=True):
            shown = key.decode("utf-8", "replace")
            event = CircuitOpened(limit_key=shown, failures=failures, for_s=open_ms / 1000)
            self._telemetry.events.publish(event)


def _groups(batch: Sequence[Outcome], counts_ends: bool) -> Iterator[CommitGroup]:
    """The outcomes in groups that differ in id and result only, so that all else is sent once.

    Host outcomes keep the order in which the runs ended, since consecutive failures of a limit key are counted.
    Outcomes without a host_outcome, and equal host_outcomes with no other between them, can change places.
    """
    groups: dict[tuple[Any, ...], list[bytes]] = {}
    order, host_outcome = 0, ""
    for outcome in batch:
        lease, action = outcome.lease, outcome.action
        time_ms = outcome.result_ttl_ms if action in ENDING else outcome.defer_ms
        if outcome.host_outcome and outcome.host_outcome != host_outcome:
            order, host_outcome = order + 1, outcome.host_outcome
        own_order = order if outcome.host_outcome else 0
        common = (
            own_order, lease.token, action, time_ms, outcome.marker_ms, outcome.host_outcome, outcome.dead_letter,
            outcome.figure if counts_ends else "",
        )  # fmt: skip
        jobs = groups.get(common)
        if jobs is None:
            groups[common] = [lease.key, outcome.result]
        else:
            jobs += (lease.key, outcome.result)
    for (_, token, action, time_ms, marker_ms, host_outcome, dead_letter, figure), jobs in groups.items():
        yield CommitGroup(token, action, time_ms, marker_ms, host_outcome, dead_letter, figure, jobs)
