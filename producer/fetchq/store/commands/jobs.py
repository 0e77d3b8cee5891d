"""The scripts under `lua/jobs/`: from enqueueing a job to committing its outcome.

`now_ms` sets the clock of a script in tests; without it a script takes Redis's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from fetchq.contract.job_ids import PUSH_PREFIX_LEN
from fetchq.store.keys import Keys
from fetchq.store.registry import key_names
from fetchq.store.runner import Argument, ScriptRunner


class NewJob(NamedTuple):
    """A job to be enqueued."""

    id: str
    payload: bytes
    due: str
    """Empty: at once; `+N`: in N ms; `N`: at N ms since the epoch."""
    limit_key: str
    """Empty: none, or one that only a worker can determine."""
    lane_and_deadline: str
    """The lane (`h` high, `l` low, empty for the default), the deadline in ms since the epoch, if there is one, and
    `~N` for a payload that expires in N ms."""


class EnqueuedBatch(NamedTuple):
    """The outcome of a batch of new jobs."""

    existing: list[tuple[int, bytes]]
    """The jobs whose id existed: their place in the batch from 0, and the stored payload or result."""
    stopped_at: int | None
    """The place of the first job for which there was no capacity: neither it nor a later one was added. `existing` has
    also those after it that needed none, except where memory was short."""
    reason: str
    """Which capacity was exhausted: `queue`, `memory`, or empty."""
    measured: int
    """The number of jobs or bytes of it, and `limit` their maximum; both 0 without a reason."""
    limit: int


class CancelJob(NamedTuple):
    """A job to be cancelled, and the result to store if it is."""

    id: str
    result: bytes
    result_ttl_ms: int
    """0 stores no result."""
    limit_key: str
    """Empty: none, or unknown."""
    figure: str
    """The field that counts the job if it ends here (`fetchq.telemetry.ends`)."""


class ReportedJob(NamedTuple):
    """A claimed job that was started before, or whose abort was requested."""

    place: int
    """In the lists of the reply, from 0."""
    tries: int
    abort_requested: bool


class ClaimReply(NamedTuple):
    """The reply of a claim. `ids` and `payloads` have one entry for each job, in the same order."""

    queued: int
    """Jobs that are pending or running."""
    more: bool
    """Due jobs are left for another call."""
    wait_ms: int | None
    """Until the next job or limit key is due, or the next lease ends."""
    offset: int
    """The `offset` of the next call."""
    clock_ms: int
    """The time by Redis's clock."""
    ids: list[bytes]
    payloads: list[bytes | None]
    """None: the payload is gone, or is not a string."""
    scores: list[bytes]
    """The original score of each job; a single one if it is the same for all."""
    reported: list[ReportedJob]
    """All other jobs are in their first try, and no abort was requested."""


class AdmitJob(NamedTuple):
    """A claimed job whose limit key must permit its start."""

    id: bytes | str
    token: str
    limit_key: str
    deadline_ms: str | int
    """Since the epoch; empty for none. A job whose deadline has passed is admitted without limits, to end."""
    also_respects: str
    """Another limit key whose cooldown and pause also apply, but under which the job is not counted; empty for none."""


class AdmitReply(NamedTuple):
    """Which of the claimed jobs may start."""

    refused: list[bytes]
    """Ids of the jobs that may not start: they are parked, or another run holds their lease."""
    next_due_ms: int
    """Until a parked job may be claimed; -1: no earlier than before this call."""
    deadline_passed: list[bytes]
    """Ids of the jobs that were admitted without limits, since their deadline has passed."""


class CommitGroup(NamedTuple):
    """Outcomes of several jobs that differ in id and result only."""

    token: str
    action: str
    """`finish`, `clean`, `missing`, `retry`, `requeue` or `requeue_with_keys`: see `commit.lua`."""
    time_ms: int | None
    """How long the result is stored (None: without expiry; 0: not at all), or in how many ms the job is due (None: at
    its original score)."""
    marker_ms: int | None
    """How long the in-progress key outlasts the job; None: it is removed."""
    host_outcome: str
    """The outcome for the limit key's record (`host_outcome.lua`); empty for none."""
    dead_letter: bytes
    """The worker's part of a dead letter, without the payload; empty for none."""
    figure: str
    """The field that counts each of these jobs that ends (`fetchq.telemetry.ends`); empty: they are not counted."""
    jobs: Sequence[bytes | str]
    """Flat: id, result, id, result, ..."""


class CommitReply(NamedTuple):
    """The reply of a commit."""

    lost: list[bytes]
    """Ids of the jobs whose lease belongs to another run, or is missing: nothing of these jobs was changed."""
    refused: list[bytes]
    """Ids of the jobs whose result or dead letter Redis did not store: they keep their lease."""
    refusal: bytes
    """The last error of these."""
    next_due_ms: int
    """Until a parked job may be claimed, if this commit changed that; else -1."""
    opened: Sequence[Any] = ()
    """The circuits that this commit opened, flat: limit key, failed connections in a row, ms until it closes, ..."""


class AbortsReply(NamedTuple):
    """One page of the jobs to be cancelled."""

    offset: int
    """The `offset` of the next call."""
    any_brought_forward: bool
    """Whether a waiting job was moved to the head of the queue."""
    running: list[bytes]
    """Ids of the jobs that this worker runs."""


class JobCommands:
    """The scripts of jobs, for one queue."""

    def __init__(self, keys: Keys) -> None:
        waiting = keys.waiting
        self._enqueue_keys: Final = key_names("jobs/enqueue", keys)
        self._enqueue_prefixes: Final = (keys.job, keys.result)
        self._waiting: Final = waiting
        self._figures: Final = (keys.metrics, keys.minute)
        self._cancel_keys: Final = key_names("jobs/cancel", keys)
        self._cancel_head: Final = (
            keys.job, keys.result, keys.in_progress, keys.retry, keys.attempts, keys.done, PUSH_PREFIX_LEN,
        )  # fmt: skip
        self._claim_keys: Final = key_names("jobs/claim", keys)
        self._run_prefixes: Final = (keys.job, keys.retry, keys.in_progress, waiting)
        self._admit_keys: Final = key_names("jobs/admit", keys)
        self._return_keys: Final = key_names("jobs/return_claims", keys)
        self._commit_keys: Final = key_names("jobs/commit", keys)
        self._commit_head: Final = (
            keys.job, keys.retry, keys.in_progress, keys.result, keys.attempts, keys.done, PUSH_PREFIX_LEN, waiting,
            keys.dead_letter,
        )  # fmt: skip
        self._renew_keys: Final = key_names("jobs/renew", keys)
        self._renew_prefixes: Final = (keys.in_progress, waiting, keys.retry)
        self._abort_keys: Final = key_names("jobs/find_aborts", keys)
        self._abort_prefixes: Final = (keys.job, keys.in_progress)
        self._maintain_keys: Final = key_names("jobs/maintain", keys)

    async def enqueue(
        self,
        runner: ScriptRunner,
        jobs: Iterable[NewJob],
        *,
        max_queued: int | None = None,
        max_memory: float | None = None,
        now_ms: int | None = None,
    ) -> EnqueuedBatch:
        """Puts jobs on the queue, each unless a job or result of its id exists, as far as there is capacity.

        `max_queued`: how many jobs the queue may hold, running ones included. `max_memory`: the share of Redis's
        maxmemory at which no job is added any more; None: not checked.
        """
        args: list[Argument] = [
            *self._enqueue_prefixes,
            _time(now_ms),
            self._waiting,
            "" if max_queued is None else max_queued,
            "" if max_memory is None else str(max_memory),
            *self._figures,
        ]
        args += chain.from_iterable(jobs)
        existing, stopped, reason, measured, limit = await runner.run("jobs/enqueue", self._enqueue_keys, args)
        return EnqueuedBatch(
            [(place - 1, holder) for place, holder in _pairs(existing)] if existing else existing,
            stopped - 1 if stopped else None,
            reason.decode(),
            measured,
            limit,
        )

    async def cancel(self, runner: ScriptRunner, jobs: Iterable[CancelJob], *, now_ms: int | None = None) -> list[int]:
        """Cancels jobs: a waiting one ends at once with its result, a running one is marked for its worker.

        Returns for each: 0 no such job on this queue, 1 cancelled, 2 running and marked, 3 finished.
        """
        head = (*self._cancel_head, _time(now_ms), self._waiting, *self._figures)
        args: list[Any] = [*head, *chain.from_iterable(jobs)]
        codes: list[int] = await runner.run("jobs/cancel", self._cancel_keys, args)
        return codes

    async def claim(
        self,
        runner: ScriptRunner,
        *,
        token: str,
        lease_ms: int,
        count: int,
        max_bytes: int,
        default_payload_ttl_ms: int,
        check_aborts: bool,
        offset: int = 0,
        lanes: str = "hdl",
        only: Sequence[bytes | str] = (),
        now_ms: int | None = None,
        on_sent: Callable[[], None] | None = None,
    ) -> ClaimReply:
        """Claims up to `count` due jobs under the fencing token `token`; each call needs its own.

        It stops once their payloads exceed `max_bytes`. `default_payload_ttl_ms` is the default TTL of a stock client's
        payload, counted from its due time. `offset` due jobs are skipped: an earlier call found them held by others.
        `lanes` is the order in which lanes are read: `h` high, `d` default, `l` low. `only` claims from these ids.
        """
        args = (
            _time(now_ms), token, lease_ms, count, max_bytes, offset, default_payload_ttl_ms, "1" if check_aborts else
            "", *self._run_prefixes, lanes, *only,
        )  # fmt: skip
        queued, more, wait_ms, offset, clock_ms, ids, payloads, scores, reported = await runner.run(
            "jobs/claim", self._claim_keys, args, on_sent=on_sent
        )
        fields = iter(reported)
        return ClaimReply(
            queued,
            more == 1,
            None if wait_ms < 0 else wait_ms,
            offset,
            clock_ms,
            ids,
            payloads,
            scores,
            [
                ReportedJob(place, tries, aborted == 1)
                for place, tries, aborted in zip(fields, fields, fields, strict=True)
            ]
            if reported
            else reported,
        )

    async def admit(self, runner: ScriptRunner, jobs: Iterable[AdmitJob], *, now_ms: int | None = None) -> AdmitReply:
        """Decides which claimed jobs may start under their limit keys.

        The others are parked; their try is not counted.
        """
        args = [_time(now_ms), *self._run_prefixes, *chain.from_iterable(jobs)]
        return AdmitReply(*await runner.run("jobs/admit", self._admit_keys, args))

    async def return_claims(self, runner: ScriptRunner, tokens: Iterable[str], *, now_ms: int | None = None) -> int:
        """Requeues all jobs that were claimed with these tokens; their try is not counted. Returns how many."""
        count: int = await runner.run(
            "jobs/return_claims", self._return_keys, (_time(now_ms), *self._run_prefixes, *tokens)
        )
        return count

    async def commit(
        self,
        runner: ScriptRunner,
        groups: Iterable[CommitGroup],
        *,
        dead_letter_ttl_ms: int,
        max_dead_letters: int,
        now_ms: int | None = None,
    ) -> CommitReply:
        """Commits the outcomes of runs whose tokens still hold their leases."""
        args: list[Any] = [_time(now_ms), *self._commit_head, dead_letter_ttl_ms, max_dead_letters, *self._figures]
        for token, action, time_ms, marker_ms, host_outcome, dead_letter, figure, jobs in groups:
            args += (
                len(jobs) // 2, token, action, "" if time_ms is None else time_ms,
                "" if marker_ms is None else marker_ms, host_outcome, dead_letter, figure,
            )  # fmt: skip
            args += jobs
        return CommitReply(*await runner.run("jobs/commit", self._commit_keys, args))

    async def renew(
        self,
        runner: ScriptRunner,
        held: Iterable[tuple[bytes | str, str]],
        *,
        lease_ms: int,
        now_ms: int | None = None,
    ) -> list[bytes]:
        """Renews the leases of jobs (id, token) until `lease_ms` from now. Returns the ids of lost leases."""
        args = [_time(now_ms), lease_ms, *self._renew_prefixes, *chain.from_iterable(held)]
        lost: list[bytes] = await runner.run("jobs/renew", self._renew_keys, args)
        return lost

    async def find_aborts(
        self,
        runner: ScriptRunner,
        *,
        token_prefix: str,
        max_age_ms: int,
        offset: int,
        count: int,
        now_ms: int | None = None,
    ) -> AbortsReply:
        """Checks `count` of the jobs to be cancelled, after the first `offset` of them.

        `token_prefix` is the common prefix of this worker's tokens. Entries without a job are removed after
        `max_age_ms`.
        """
        args = (_time(now_ms), token_prefix, *self._abort_prefixes, max_age_ms, offset, count)
        offset, brought_forward, running = await runner.run("jobs/find_aborts", self._abort_keys, args)
        return AbortsReply(offset, brought_forward == 1, running)

    async def maintain(
        self,
        runner: ScriptRunner,
        *,
        gap_ms: int,
        page: int,
        default_payload_ttl_ms: int,
        now_ms: int | None = None,
    ) -> int:
        """Scans one page of the queue: removes TTLs of waiting payloads, and repairs leases and limit keys.

        `gap_ms` is the minimum time between two pages, for all workers together. Returns the number of removed TTLs; -1
        if the last page was scanned too recently.
        """
        args = (_time(now_ms), gap_ms, page, self._enqueue_prefixes[0], default_payload_ttl_ms, self._waiting)
        persisted: int = await runner.run("jobs/maintain", self._maintain_keys, args)
        return persisted


def _time(now_ms: int | None) -> int | str:
    return "" if now_ms is None else now_ms


def _pairs(flat: Sequence[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)
