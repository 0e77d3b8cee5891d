"""What is wrong with a queue, in sentences: from its figures alone, the worst first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Final, NamedTuple

from fetchq.inspect.workers import WorkerState

from .tables import is_silent
from .view import RECENT_MINUTES, Snapshot, View
from .words import Glyphs, clock, cooldown_cause, duration, jobs, number, size, waiting

LATE_S: Final = 30.0
"""A due job that waits for less is no finding."""
NEARLY_SHARE: Final = 0.85
"""Of `maxmemory`."""
REFUSED_SHARE: Final = 0.95
"""The same, from which on producers add no jobs unless they set another (`fetchq.client.write.policy`)."""
MANY_FAILED_SHARE: Final = 0.2
FEWEST_ENDED: Final = 20
"""Of fewer jobs in the last minutes a share says nothing."""
CLOCK_SKEW_S: Final = 5.0
_NOT_FAILED: Final = frozenset({"OK", "NOT_MODIFIED", "CANCELLED", "ok", "cancelled"})
_NAMED: Final = 3
"""Outcomes that a sentence names."""


class Severity(IntEnum):
    """How bad a finding is."""

    FAULT = 0
    """Jobs do not run, or are lost to sight."""
    CAUTION = 1
    """Some jobs wait longer than they should."""
    NOTE = 2


class Finding(NamedTuple):
    """One thing that an operator should know."""

    severity: Severity
    sentence: str


def findings(view: View, glyphs: Glyphs) -> list[Finding]:
    """What is to be said, the worst first; at least one sentence."""
    snapshot = view.snapshot
    found = [
        *_of_redis(view, glyphs),
        *_of_the_pause(view),
        *_of_workers(snapshot, glyphs),
        *_of_waits(snapshot),
        *_of_hosts(snapshot, glyphs),
        *_of_outcomes(snapshot, glyphs),
        *_of_clocks(snapshot),
    ]
    return sorted(found, key=lambda one: one.severity) or [Finding(Severity.NOTE, _all_is_well(snapshot))]


def failures(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The outcomes that are failures, the most frequent first."""
    failed = [(status, count) for status, count in counts.items() if count and status not in _NOT_FAILED]
    return sorted(failed, key=lambda one: (-one[1], one[0]))


def has_jobs(snapshot: Snapshot) -> bool:
    state = snapshot.state
    return bool(state.due or state.waiting or state.deferred or state.running)


def _of_redis(view: View, glyphs: Glyphs) -> Iterator[Finding]:
    if view.problem:
        since = f"no figures since {clock(view.snapshot.state.now_ms)}, for {duration(view.problem_s)}"
        yield Finding(Severity.FAULT, f"{since}: {glyphs.clean(view.problem)}")
    state, server = view.snapshot.state, view.snapshot.server
    used, most = state.redis_memory_bytes or 0, state.redis_max_memory_bytes or 0
    share = used / most if most else 0.0
    if share >= REFUSED_SHARE:
        full = "full" if share >= 1 else f"{share:.0%} full"
        until = "until workers drain it or it gets more memory"
        yield Finding(Severity.FAULT, f"Redis is {full} ({size(used)} of {size(most)}): nothing is enqueued {until}")
    elif share >= NEARLY_SHARE:
        yield Finding(
            Severity.CAUTION, f"Redis is {share:.0%} full; from {REFUSED_SHARE:.0%} on producers enqueue nothing"
        )
    if server is None:
        return
    if server.cannot_save:
        yield Finding(Severity.FAULT, "Redis cannot save to its disk, and may refuse all writes")
    if server.is_replica:
        yield Finding(
            Severity.CAUTION, "this Redis is a replica: what is shown may be late, and nothing can be changed"
        )


def _of_the_pause(view: View) -> Iterator[Finding]:
    state = view.snapshot.state
    if state.paused:
        how = "fetchq resume" if view.interval_s is None else "p (or fetchq resume)"
        running = f"; {number(state.running)} still run" if state.running else ""
        yield Finding(Severity.FAULT, f"the queue is paused: no job starts until {how}{running}")


def _of_workers(snapshot: Snapshot, glyphs: Glyphs) -> Iterator[Finding]:
    state = snapshot.state
    workers = state.workers
    if not workers and has_jobs(snapshot):
        yield Finding(Severity.FAULT, "no worker is running: jobs wait; start one with fetchq worker")
    elif workers and all(one.state is not WorkerState.RUNNING for one in workers):
        yield Finding(Severity.FAULT, "every worker is quiet or stopping: no job starts")
    for lost in snapshot.lost[:_NAMED]:
        record, ago_s = lost.record, (state.now_ms - lost.seen_ms) / 1000
        had = f"its {jobs(record.running)} run again when their leases end" if record.running else "it had no jobs"
        yield Finding(
            Severity.CAUTION,
            f"worker {glyphs.clean(record.host)} (pid {record.pid}) is gone without having stopped, last seen"
            f" {duration(ago_s)} ago: {had}",
        )
    silent = [one for one in workers if is_silent(one, state.now_ms)]
    if silent:
        one = silent[0]
        others = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
        yield Finding(
            Severity.CAUTION,
            f"worker {glyphs.clean(one.host)} (pid {one.pid}){others} sends no heartbeat for"
            f" {duration((state.now_ms - one.heartbeat_ms) / 1000)}",
        )


def _of_waits(snapshot: Snapshot) -> Iterator[Finding]:
    state = snapshot.state
    if state.paused or not state.workers or state.oldest_due_s is None or state.oldest_due_s < LATE_S or not state.due:
        return
    busy = sum(one.running for one in state.workers)
    slots = sum(one.concurrency for one in state.workers if one.state is WorkerState.RUNNING)
    late = f"the oldest due job waits for {duration(state.oldest_due_s)}"
    if busy >= 0.9 * slots:
        yield Finding(
            Severity.CAUTION,
            f"all slots are in use and {jobs(state.due)} {'is' if state.due == 1 else 'are'} due; {late}: add workers",
        )
    else:
        yield Finding(Severity.FAULT, f"{late} although slots are free: look at the log of the workers")


def _of_hosts(snapshot: Snapshot, glyphs: Glyphs) -> Iterator[Finding]:
    cooling = sorted(
        (one for one in snapshot.hosts if one.cooldown_s is not None and not one.paused), key=lambda one: -one.waiting
    )
    if cooling:
        one = cooling[0]
        many = max(snapshot.state.hosts_cooling, len(cooling))
        name = glyphs.clean(one.host)
        causes = [glyphs.clean(one.last_outcome or ""), cooldown_cause(one), f"{duration(one.cooldown_s or 0.0)} left"]
        why = f"({', '.join(cause for cause in causes if cause)})"
        if many == 1:
            sentence = f"{name} is in a cooldown {why}" + (f"; {waiting(one.waiting)} for it" if one.waiting else "")
        else:
            sentence = f"{number(many)} hosts are in a cooldown; {waiting(one.waiting)} for {name} {why}"
        yield Finding(Severity.CAUTION, sentence)
    paused = [one for one in snapshot.hosts if one.paused and one.waiting]
    if paused:
        most = max(paused, key=lambda one: one.waiting)
        names = f"{glyphs.clean(most.host)} is" if len(paused) == 1 else f"{number(len(paused))} hosts are"
        yield Finding(Severity.CAUTION, f"{names} paused: {waiting(sum(one.waiting for one in paused))}")


def _of_outcomes(snapshot: Snapshot, glyphs: Glyphs) -> Iterator[Finding]:
    """Of the jobs that failed, else of the attempts: a job may succeed in a later one."""
    for what, counts in (("jobs", snapshot.recent), ("attempts", snapshot.attempts)):
        ended = sum(counts.values())
        failed = failures(counts)
        count = sum(amount for _, amount in failed)
        if ended >= FEWEST_ENDED and count >= MANY_FAILED_SHARE * ended:
            names = ", ".join(f"{number(amount)} {glyphs.clean(status)}" for status, amount in failed[:_NAMED])
            sentence = f"{count / ended:.0%} of the {what} of the last {RECENT_MINUTES} min failed: {names}"
            listed = what == "jobs" and snapshot.state.dead_letters
            yield Finding(Severity.CAUTION, f"{sentence}; see fetchq dead list" if listed else sentence)
            return


def _of_clocks(snapshot: Snapshot) -> Iterator[Finding]:
    ahead_s = snapshot.clock_ahead_s
    if abs(ahead_s) >= CLOCK_SKEW_S:
        way = "ahead of" if ahead_s > 0 else "behind"
        yield Finding(
            Severity.NOTE,
            f"the clock of this machine is {duration(abs(ahead_s))} {way} Redis's; times here are Redis's",
        )


def _all_is_well(snapshot: Snapshot) -> str:
    state = snapshot.state
    if has_jobs(snapshot):
        held = f"; {waiting(state.waiting)} for the limits of their hosts" if state.waiting else ""
        return f"no problem is seen{held}"
    return "the queue is empty" if state.workers else "the queue is empty, and no worker is running"
