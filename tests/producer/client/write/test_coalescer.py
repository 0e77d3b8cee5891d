"""Which jobs share a call, decided without an event loop and without Redis."""

from __future__ import annotations

from itertools import chain
from typing import Any
from unittest.mock import sentinel

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fetchq.client.write.coalescing import (
    MAX_SHARED_BYTES,
    MAX_SHARED_JOBS,
    Coalescer,
    WaitingJob,
    outcomes_of,
)
from fetchq.store.commands import EnqueuedBatch, NewJob


def waiting_job(size_bytes: int = 1) -> WaitingJob:
    return WaitingJob(NewJob("id", bytes(size_bytes), "", "", ""), sentinel.ticket, sentinel.future)


def test_a_job_is_sent_at_once_while_no_call_is_under_way() -> None:
    coalescer = Coalescer()
    assert coalescer.try_begin()
    assert not coalescer.try_begin()
    assert not coalescer.end()
    assert coalescer.try_begin()


def test_another_call_follows_while_jobs_wait() -> None:
    coalescer = Coalescer()
    coalescer.try_begin()
    first, second = waiting_job(), waiting_job()
    coalescer.join(first)
    assert coalescer.end()
    assert not coalescer.try_begin(), "the call that follows is under way"
    coalescer.join(second)
    assert coalescer.next_call() == [first, second]
    assert not coalescer.end()


def test_no_call_is_under_way_if_all_callers_that_waited_for_it_were_cancelled() -> None:
    coalescer = Coalescer()
    coalescer.try_begin()
    job = waiting_job()
    coalescer.join(job)
    assert coalescer.end()
    coalescer.leave(job)
    assert coalescer.next_call() == []
    assert coalescer.try_begin()


def test_a_call_takes_so_many_jobs() -> None:
    coalescer = Coalescer()
    coalescer.try_begin()
    jobs = [waiting_job() for _ in range(2 * MAX_SHARED_JOBS + 1)]
    for job in jobs:
        coalescer.join(job)
    calls = [coalescer.next_call() for _ in range(4)]
    assert [len(call) for call in calls] == [MAX_SHARED_JOBS, MAX_SHARED_JOBS, 1, 0]
    assert [*chain(*calls)] == jobs


def test_a_call_takes_so_many_bytes_and_a_larger_job_goes_alone() -> None:
    coalescer = Coalescer()
    coalescer.try_begin()
    half = MAX_SHARED_BYTES // 2
    for size_bytes in (half, half, 1, MAX_SHARED_BYTES + 1, 1, half):
        coalescer.join(waiting_job(size_bytes))
    calls = [[len(one.job.payload) for one in coalescer.next_call()] for _ in range(4)]
    assert calls == [[half, half], [1], [MAX_SHARED_BYTES + 1], [1, half]]


class Calls(RuleBasedStateMachine):
    """Any order of arrivals, replies and cancellations. Every job is sent once, in order, unless it was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.coalescer = Coalescer()
        self.is_under_way = False
        self.follows = False
        self.arrived: list[WaitingJob] = []
        self.cancelled: set[WaitingJob] = set()
        self.sent: list[WaitingJob] = []

    @rule(size_bytes=st.sampled_from([1, MAX_SHARED_BYTES // 3, MAX_SHARED_BYTES]))
    def arrive(self, size_bytes: int) -> None:
        job = waiting_job(size_bytes)
        self.arrived.append(job)
        if self.coalescer.try_begin():
            assert not self.is_under_way
            self.is_under_way = True
            self.sent.append(job)
        else:
            assert self.is_under_way
            self.coalescer.join(job)

    @precondition(lambda self: self.is_under_way and not self.follows)
    @rule()
    def reply(self) -> None:
        self.is_under_way = self.follows = self.coalescer.end()

    @precondition(lambda self: self.follows)
    @rule()
    def send_next(self) -> None:
        self.follows = False
        batch = self.coalescer.next_call()
        assert len(batch) <= 1 or sum(len(one.job.payload) for one in batch) <= MAX_SHARED_BYTES
        self.sent += batch
        self.is_under_way = bool(batch)

    @precondition(lambda self: self.arrived)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.arrived))
        self.coalescer.leave(job)
        if job not in self.sent:
            self.cancelled.add(job)

    @invariant()
    def the_sent_jobs_are_the_first_that_arrived_and_none_waits_without_a_call(self) -> None:
        expected = [job for job in self.arrived if job not in self.cancelled]
        assert self.sent == expected[: len(self.sent)]
        assert [*self.coalescer.waiting] == expected[len(self.sent) :]
        assert self.is_under_way or not self.coalescer.waiting

    def teardown(self) -> None:
        while self.is_under_way:
            if self.follows:
                self.send_next()
            else:
                self.reply()
        self.the_sent_jobs_are_the_first_that_arrived_and_none_waits_without_a_call()
        assert not self.coalescer.waiting


TestCalls: Any = Calls.TestCase


@given(
    st.integers(1, 8).flatmap(
        lambda count: st.tuples(
            st.just(count),
            st.none() | st.integers(0, count - 1),
            st.sets(st.integers(0, count - 1)),
        )
    )
)
def test_the_reply_to_a_call_is_one_outcome_for_each_job(case: tuple[int, int | None, set[int]]) -> None:
    count, stopped_at, existing = case
    existing -= {stopped_at} if stopped_at is not None else set()
    reply = EnqueuedBatch(
        [(place, b"holder %d" % place) for place in sorted(existing)],
        stopped_at,
        "" if stopped_at is None else "queue",
        0 if stopped_at is None else 7,
        0 if stopped_at is None else 6,
    )
    outcomes = [*outcomes_of(reply, count)]
    assert len(outcomes) == count
    for place, outcome in enumerate(outcomes):
        if place in existing:
            assert outcome == EnqueuedBatch([(0, b"holder %d" % place)], None, "", 0, 0)
        elif stopped_at is None or place < stopped_at:
            assert outcome == EnqueuedBatch([], None, "", 0, 0)
        else:
            assert outcome == EnqueuedBatch([], 0, "queue", 7, 6)
