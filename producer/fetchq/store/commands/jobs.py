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
    """Empty: none, or one that only a worker can find out."""
    lane_and_deadline: str
    """The lane (`h` high, `l` low, empty for the default), the deadline in ms since the epoch, if there is one, and
    `~N` for a payload that expires in N ms."""


class EnqueuedBatch(NamedTuple):
    """What became of a batch of new jobs."""

    existing: list[tuple[int, bytes]]
    """The jobs whose id existed: their place in the batch from 0, and the stored payload or result."""
    stopped_at: int | None
    """The place of the first job for which there was no capacity: it and all after it were not looked at."""
    reason: str
    """What was short: `queue`, `memory`, or empty."""
    measured: int
    """The jobs or bytes of what was short, and their limit; 0 for none."""
    limit: int


class CancelJob(NamedTuple):
    """A job to be cancelled, and the result to store if it is."""

    id: str
    result: bytes
    result_ttl_ms: int
    """0 stores no result."""
    limit_key: str
    """Empty where there is none, or it is not known."""


class ReportedJob(NamedTuple):
    """A claimed job of which Redis may hold more than payload and lease."""

    place: int
    """In the lists of the reply, from 0."""
    tries: int
    abort_asked: bool


class ClaimReply(NamedTuple):
    """What a claim returned. The lists are in step: one entry a job."""

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
    """The original score of each job; a single one is that of all."""
    reported: list[ReportedJob]
    """All others are in their first try, and nobody asked to abort them."""


class AdmitJob(NamedTuple):
    """A claimed job that asks to start under its limit key."""

    id: bytes | str
    token: str
    limit_key: str
    deadline_ms: str | int
    """Since the epoch; empty for none. A job whose deadline has passed starts under no limit."""
    also_respects: str
    """Another limit key, for which it does not count, but whose cooldown and pause hold it back; empty for none."""


class AdmitReply(NamedTuple):
    """Which of the claimed jobs may start."""

    refused: list[bytes]
    """Ids of the jobs that may not start: parked, or their lease is another run's."""
    next_due_ms: int
    """Until a parked job may be claimed; -1: no earlier than was known."""
    deadline_passed: list[bytes]
    """Ids of the jobs that start under no limit, since their deadline has passed."""


class CommitGroup(NamedTuple):
    """Outcomes of several jobs that differ in id and result only."""

    token: str
    action: str
    """`finish`, `clean`, `missing`, `retry`, `requeue` or `requeue_with_keys`: see `commit.lua`."""
    time_ms: int | None
    """How long the result is kept (None for ever, 0 not at all); or when the job is due (None: at its score)."""
    marker_ms: int | None
    """How long the in-progress key outlasts the job; None: it is removed."""
    note: str
    """What the run reports of its limit key; empty for nothing."""
    dead_letter: bytes
    """What a dead letter holds beside the payload; empty for none."""
    jobs: Sequence[bytes | str]
    """Id, result, id, result and so on."""


class CommitReply(NamedTuple):
    """What became of the outcomes."""

    lost: list[bytes]
    """Ids of the jobs whose lease is another run's or nobody's: nothing of them was changed."""
    refused: list[bytes]
    """Ids of the jobs whose result or dead letter Redis did not store: they keep their lease."""
    refusal: bytes
    """The last error of these."""
    next_due_ms: int
    """Until a parked job may be claimed, if that has changed; -1 otherwise."""


class AbortsReply(NamedTuple):
    """One page of the jobs whose cancelling was asked for."""

    offset: int
    """The `offset` of the next call."""
    any_brought_forward: bool
    """A waiting job was moved to the head of the queue."""
    running: list[bytes]
    """Ids of the jobs that this worker runs."""


class JobCommands:
    """The scripts of jobs, for one queue."""

    def __init__(self, keys: Keys) -> None:
        waiting = keys.waiting
        self._enqueue_keys: Final = key_names("jobs/enqueue", keys)
        self._enqueue_prefixes: Final = (keys.job, keys.result)
        self._waiting: Final = waiting
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
        maxmemory from which on nothing is added; None does not look at it.
        """
        args: list[Argument] = [
            *self._enqueue_prefixes,
            _time(now_ms),
            self._waiting,
            "" if max_queued is None else max_queued,
            "" if max_memory is None else str(max_memory),
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
        """Cancels jobs: one that waits ends at once with its result, one that runs is reported to its worker.

        Returns for each: 0 there is no such job, 1 cancelled, 2 it runs and was reported, 3 it is finished.
        """
        args: list[Any] = [*self._cancel_head, _time(now_ms), self._waiting, *chain.from_iterable(jobs)]
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
        default_life_ms: int,
        look_at_aborts: bool,
        offset: int = 0,
        lanes: str = "hdl",
        only: Sequence[bytes | str] = (),
        now_ms: int | None = None,
        on_sent: Callable[[], None] | None = None,
    ) -> ClaimReply:
        """Takes up to `count` due jobs under the fencing token `token`, which no other call may use.

        No more are taken once their payloads exceed `max_bytes`. `default_life_ms` is how long past its due time a
        stock client keeps a payload. `offset` due jobs are passed over: an earlier call found them held by others.
        `lanes` is the order in which lanes are read: `h` high, `d` default, `l` low. With `only`, jobs of these ids.
        """
        args = (
            _time(now_ms), token, lease_ms, count, max_bytes, offset, default_life_ms, "1" if look_at_aborts else "",
            *self._run_prefixes, lanes, *only,
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
        """Decides which claimed jobs may start under their limit keys. The others are parked, their try uncounted."""
        args = [_time(now_ms), *self._run_prefixes, *chain.from_iterable(jobs)]
        return AdmitReply(*await runner.run("jobs/admit", self._admit_keys, args))

    async def return_claims(self, runner: ScriptRunner, tokens: Iterable[str], *, now_ms: int | None = None) -> int:
        """Requeues all jobs that were claimed with these tokens, their try uncounted. Returns how many."""
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
        args: list[Any] = [_time(now_ms), *self._commit_head, dead_letter_ttl_ms, max_dead_letters]
        for token, action, time_ms, marker_ms, note, dead_letter, jobs in groups:
            args += (
                len(jobs) // 2, token, action, "" if time_ms is None else time_ms,
                "" if marker_ms is None else marker_ms, note, dead_letter,
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
        """Renews the leases of jobs (id, token) for `lease_ms` from now. Returns the ids that this worker has lost."""
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
        """Looks at `count` of the jobs whose cancelling was asked for, after `offset` of them.

        `token_prefix` is what all tokens of this worker begin with. Entries without a job end after `max_age_ms`.
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
        default_life_ms: int,
        now_ms: int | None = None,
    ) -> int:
        """Scans one page of the queue: keeps waiting payloads from expiring, and repairs leases and limit keys.

        `gap_ms` is the least time between two pages, of all workers together. Returns how many payloads lost their
        TTL; -1 if it was too early.
        """
        args = (_time(now_ms), gap_ms, page, self._enqueue_prefixes[0], default_life_ms, self._waiting)
        kept: int = await runner.run("jobs/maintain", self._maintain_keys, args)
        return kept


def _time(now_ms: int | None) -> int | str:
    return "" if now_ms is None else now_ms


def _pairs(flat: Sequence[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)
