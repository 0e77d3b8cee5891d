"""The scripts under random operations of producers, workers and operators, embedded and on a real Redis.

The test sets the time, as in `test_state_machine.py`. The model knows which runs hold a slot, which is compared with
the records in Redis, and no job that could start may wait.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from arq.connections import ArqRedis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.support.frontier_state import FrontierState, Limits
from tests.support.metrics.job_states import JobStates
from tests.support.redis_server import RedisServer
from tests.support.scripted_queue import LEASE_MS, T0, Queue

from fetchq.inspect.queue import QueueState, read_queue_state
from fetchq.store.connection import connect
from fetchq_worker.process.embedded import EmbeddedRedis

EXAMPLES = int(os.environ.get("EXAMPLES", "20"))
STEPS = 50
MANY = 1000
ROUNDS = 400

KEYS = ("a.example", "b.example", "c.example")
LIMITS = ("", "c=1", "c=2", "c=3 r=50000", "c=2 r=1000000", "c=8 r=200000 b=2", "c=2 d=300", "p=1")

T = TypeVar("T")


@dataclass
class Job:
    id: str
    key: str
    deadline_ms: int | None = None
    known: bool = True
    """The producer sent the limit key; that of a stock client's job is determined by the worker that claims it."""


@dataclass
class Run:
    id: str
    token: str
    key: str
    lease_end_ms: int
    acknowledged: bool = True
    """Its worker still has it, and may renew or commit it."""
    crashed: bool = False
    bypasses: bool = False
    """It was admitted without limits, since it will not do its work: its deadline has passed, or it is aborted."""


@dataclass
class Starts:
    """The starts of one key since its limits last changed."""

    at_ms: list[int] = field(default_factory=list)

    def check(self, limits: Limits) -> None:
        """Fails unless these keep to the rate in every window."""
        if not limits.interval_ms:
            return
        for first, at_ms in enumerate(self.at_ms):
            for last in range(first, len(self.at_ms)):
                count = last - first + 1
                least_ms = (count - limits.burst) * limits.interval_ms
                assert self.at_ms[last] - at_ms >= least_ms - limits.tolerance_ms, (limits, self.at_ms)


class FrontierMachine(RuleBasedStateMachine):
    """Producers, workers that crash, freeze and resume, and operators who change limits, on one queue."""

    server: RedisServer | None = None

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.jobs: dict[str, Job] = {}
        """Jobs that are neither finished nor cancelled."""
        self.ended: set[str] = set()
        self.runs: dict[str, Run] = {}
        """Every run that a worker may still consider its own, by token and id."""
        self.limits: dict[str, str] = {}
        self.starts: dict[str, Starts] = defaultdict(Starts)
        self.aborted: set[str] = set()
        self.calls = 0
        self.ids = 0
        self.told_to_wait_ms = 0
        self.paused = False

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    @initialize()
    def open(self) -> None:
        async def open_queue() -> Queue:
            if self.server is None:
                return Queue(EmbeddedRedis().client())
            self.server.flush()
            return Queue(connect(self.server.url, redis_class=ArqRedis))

        self.queue = self.wait(open_queue())
        self.now_ms = T0

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            self.run_all_remaining()
            self.wait(self.queue.redis.aclose())
        self.runner.close()

    # Time

    @rule(ms=st.sampled_from([1, 40, 300, 1000, LEASE_MS // 3, LEASE_MS - 1, LEASE_MS, 70_000]))
    def let_time_pass(self, ms: int) -> None:
        self.queue.now_ms = self.now_ms = self.now_ms + ms
        ended = {run.id for run in self.runs.values() if run.lease_end_ms <= self.now_ms}
        held = {run.id for run in self.runs.values() if run.lease_end_ms > self.now_ms}
        if ended - held:
            self.wait(self.queue.expire_in_progress(*(ended - held)))

    @precondition(lambda self: self.told_to_wait_ms > 0)
    @rule()
    def wait_until_the_claim_said(self) -> None:
        self.let_time_pass(self.told_to_wait_ms)

    # Producers

    @rule(
        key=st.sampled_from(KEYS),
        count=st.integers(1, 4),
        delay_ms=st.sampled_from([0, 0, 0, 0, 500, LEASE_MS]),
        lane=st.sampled_from(["", "", "h", "l"]),
        life_ms=st.sampled_from([None, None, None, 400, 30_000]),
    )
    def enqueue(self, key: str, count: int, delay_ms: int, lane: str, life_ms: int | None) -> None:
        deadline = None if life_ms is None else self.now_ms + life_ms
        new = [Job(self._new_id(), key, deadline) for _ in range(count)]
        self.jobs |= {job.id: job for job in new}
        due, note = f"+{delay_ms}" if delay_ms else "", f"{lane}{deadline or ''}"
        assert self.wait(self.queue.enqueue(*[(job.id, due, key, note) for job in new])) == []

    @rule(key=st.sampled_from(KEYS), count=st.integers(1, 3))
    def enqueue_as_a_stock_client_does(self, key: str, count: int) -> None:
        ids = [self._new_id() for _ in range(count)]
        self.jobs |= {job_id: Job(job_id, key, known=False) for job_id in ids}
        self.wait(self.queue.add(*ids))

    def _new_id(self) -> str:
        self.ids += 1
        return f"job{self.ids:04}"

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = self.jobs[data.draw(st.sampled_from(sorted(self.jobs)))]
        answer = self.wait(self.queue.cancel(job.id, job.key))
        if answer == 1:
            self._end(job.id)
        else:
            assert answer == 2
            assert [run for run in self._runs_of(job.id) if run.lease_end_ms > self.now_ms], job
            self.aborted.add(job.id)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def abort_as_a_stock_client_does(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        redis, keys = self.queue.redis, self.queue.keys
        score = self.wait(self.queue.score(job_id))
        if score is not None and score > self.now_ms:
            self.wait(redis.zadd(keys.pending, {job_id: 1}))
        self.wait(redis.zadd(keys.abort, {job_id: self.now_ms}))
        self.aborted.add(job_id)

    # Workers

    @rule(count=st.sampled_from([1, 2, 5, 20]), lanes=st.sampled_from(["hdl", "dhl", "lhd"]))
    def claim_and_start(self, count: int, lanes: str) -> None:
        self._admit(*self._claim(count, lanes))

    @rule(count=st.sampled_from([1, 5]), admits=st.booleans())
    def claim_without_a_reply(self, count: int, admits: bool) -> None:
        """The reply of the claim, or that of the admission, is lost."""
        token, ids = self._claim(count)
        if admits:
            self._admit(token, ids, acknowledged=False)
        else:
            end_ms = self.now_ms + LEASE_MS
            for job_id in ids:
                self._add(Run(job_id, token, self.jobs[job_id].key, end_ms, acknowledged=False, bypasses=True))

    @precondition(lambda self: any(not run.acknowledged for run in self.runs.values()))
    @rule()
    def return_unacknowledged_claims(self) -> None:
        tokens = {run.token for run in self.runs.values() if not run.acknowledged}
        self.wait(self.queue.return_claims(*sorted(tokens)))
        self.runs = {name: run for name, run in self.runs.items() if run.acknowledged}

    def _claim(self, count: int, lanes: str = "hdl") -> tuple[str, list[str]]:
        self.calls += 1
        token = f"w.{self.calls:x}"
        claim = self.wait(self.queue.claim(count, token=token, lanes=lanes))
        self.told_to_wait_ms = max(0, claim.wait_ms)
        for job in claim.jobs:
            assert job.id in self.jobs, f"{job.id} has ended, and was claimed"
            assert not [run for run in self._runs_of(job.id) if run.lease_end_ms > self.now_ms], f"{job.id} runs twice"
            for old in self._runs_of(job.id):
                del self.runs[old.token + old.id]
        return token, claim.ids

    def _admit(self, token: str, ids: list[str], *, acknowledged: bool = True) -> None:
        if not ids:
            return
        before = self._state()
        asked = []
        for job_id in ids:
            job = self.jobs[job_id]
            is_over = job.id in self.aborted or (job.deadline_ms is not None and job.deadline_ms <= self.now_ms)
            asked.append((job_id, token, job.key, "0" if is_over else job.deadline_ms or ""))
        refused = self.wait(self.queue.admit(*asked))
        for job_id, _, key, deadline in asked:
            run = Run(job_id, token, key, self.now_ms + LEASE_MS, acknowledged, bypasses=deadline == "0")
            if job_id in refused:
                assert not run.bypasses, "a job that will not be run must not wait"
                continue
            if not run.bypasses:
                self._check_start(run, before)
            self._add(run)

    def _check_start(self, run: Run, before: FrontierState) -> None:
        limits, record = before.limits_of(run.key), before.record(run.key)
        assert not limits.paused, "a start while its key is paused"
        assert record.cooldown_until_ms <= self.now_ms, "a start during a cooldown"
        others = [other for other in self.runs.values() if other.key == run.key and not other.bypasses]
        at_once = sum(other.lease_end_ms > self.now_ms for other in others)
        assert at_once < (1 if record.consecutive_throttles else limits.concurrency), "too many at a time"
        self.starts[run.key].at_ms.append(self.now_ms)
        self.starts[run.key].check(limits)

    def _acknowledged(self) -> list[Run]:
        return [run for _, run in sorted(self.runs.items()) if run.acknowledged and not run.crashed]

    def _draw_run(self, data: st.DataObject) -> Run:
        return data.draw(st.sampled_from(self._acknowledged()))

    @precondition(lambda self: self._acknowledged())
    @rule(data=st.data(), note=st.sampled_from(["+OK", "+OK", "", "=TIMEOUT", "-CONNECT_ERROR"]))
    def finish(self, data: st.DataObject, note: str) -> None:
        """Possibly long after the lease, as long as no other worker has claimed the job."""
        run = self._draw_run(data)
        lost, refused, _ = self.wait(self.queue.commit((run.id, run.token, "finish", 1000, "", "done", note)))
        assert (lost, refused) == ([], [])
        self._end(run.id)

    @precondition(lambda self: self._acknowledged())
    @rule(
        data=st.data(), action=st.sampled_from(["retry", "requeue"]), defer=st.sampled_from(["", "0", "300", "20000"])
    )
    def requeue(self, data: st.DataObject, action: str, defer: str) -> None:
        run = self._draw_run(data)
        lost, refused, _ = self.wait(self.queue.commit((run.id, run.token, action, defer)))
        assert (lost, refused) == ([], [])
        del self.runs[run.token + run.id]

    @precondition(lambda self: self._acknowledged())
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        """Before or after the lease's end."""
        run = self._draw_run(data)
        assert self.wait(self.queue.renew((run.id, run.token))) == []
        run.lease_end_ms = self.now_ms + LEASE_MS

    @precondition(lambda self: self._acknowledged())
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """The worker of a run does nothing more."""
        self._draw_run(data).crashed = True

    @rule()
    def maintain(self) -> None:
        self.wait(self.queue.maintain())

    @rule()
    def find_aborts(self) -> None:
        self.wait(self.queue.find_aborts())

    # Operators

    @rule(key=st.sampled_from([*KEYS, "*.example"]), text=st.sampled_from(LIMITS))
    def set_limits(self, key: str, text: str) -> None:
        self.wait(self.queue.set_limits(key, "clear", "", *KEYS))
        if text:
            self.wait(self.queue.set_limits(key, "set", text, *KEYS))
        self.limits[key] = text
        self.starts.clear()

    @rule()
    def pause_or_resume_the_queue(self) -> None:
        self.paused = not self.paused
        redis, keys = self.queue.redis, self.queue.keys
        self.wait(redis.set(keys.paused, "1") if self.paused else redis.delete(keys.paused))

    # What must always hold

    def _state(self) -> FrontierState:
        return self.wait(FrontierState.read(self.queue.redis, self.queue.keys))

    @invariant()
    def the_records_count_right(self) -> None:
        if not self.jobs and not self.ended:
            return
        state = self._state()
        state.check_counters(self.now_ms)
        for job_id in self.jobs:
            assert job_id in state.pending, f"{job_id} is lost"
        assert not self.ended & state.pending.keys()

    @invariant()
    def each_job_is_counted_in_one_state(self) -> None:
        if not self.jobs:
            return
        state = self._queue_state()
        assert state.due + state.waiting + state.deferred + state.running == len(self._state().pending)
        assert state.running == len({run.id for run in self.runs.values() if run.lease_end_ms > self.now_ms})
        states = self.wait(JobStates.read(self.queue.redis, self.queue.keys, self.now_ms))
        assert (state.due, state.waiting, state.deferred, state.running) == states[:4]
        if states.oldest_ready_ms is not None:
            assert state.oldest_due_s is not None
            assert round(state.oldest_due_s * 1000) + 1 >= self.now_ms - states.oldest_ready_ms  # half a ms is rounded

    def _queue_state(self) -> QueueState:
        return self.wait(
            read_queue_state(self.queue.redis, self.queue.keys, runner=self.queue.runner, now_ms=self.now_ms)
        )

    @invariant()
    def waiting_keys_become_due(self) -> None:
        if self.jobs:
            self._state().check_waiting_keys_become_due()

    @precondition(lambda self: self.jobs)
    @rule()
    def claim_all_that_may_start(self) -> None:
        """Then no job waits that could start, and all that run were demand."""
        if self.paused:
            return
        demand = self._queue_state().demand
        while True:
            token, ids = self._claim(MANY)
            if not ids:
                break
            self._admit(token, ids)
        reserved = {run.key for run in self.runs.values() if run.bypasses and not run.acknowledged}
        self._state().check_free_slots_are_used(self.now_ms, reserved)
        assert demand >= self._queue_state().running

    def run_all_remaining(self) -> None:
        """At the end each job can be run and finished, and no key is left."""
        if self.paused:
            self.pause_or_resume_the_queue()
        for key in (*KEYS, "*.example"):
            if self.limits.get(key) == "p=1":
                self.set_limits(key, "c=2")
        for _ in range(ROUNDS):
            self.claim_all_that_may_start()
            for run in self._acknowledged():
                self.wait(self.queue.commit((run.id, run.token, "finish", 1000, "", "done", "+OK")))
                self._end(run.id)
            if not self.jobs:
                break
            if self.told_to_wait_ms:
                self.let_time_pass(self.told_to_wait_ms)
        assert not self.jobs, f"never released: {sorted(self.jobs)}"
        self.the_records_count_right()
        keys = self.queue.keys
        for _ in range(20):
            self.let_time_pass(600_000)
            self.wait(self.queue.claim(1, token="last"))
            self.wait(self.queue.maintain())
        for key in (keys.hosts, keys.due_hosts, keys.backlog, keys.cooldowns, keys.running, keys.leases):
            assert not self.wait(self.queue.redis.exists(key)), f"{key} is left"
        assert self.wait(self.queue.redis.keys(keys.waiting + "*")) == []

    def _runs_of(self, job_id: str) -> list[Run]:
        return [run for run in self.runs.values() if run.id == job_id]

    def _add(self, run: Run) -> None:
        self.runs[run.token + run.id] = run

    def _end(self, job_id: str) -> None:
        del self.jobs[job_id]
        self.ended.add(job_id)
        for run in self._runs_of(job_id):
            del self.runs[run.token + run.id]


@pytest.fixture(params=["embedded", "real"])
def machine(request: pytest.FixtureRequest, small_chunks: int) -> type[FrontierMachine]:
    server = request.getfixturevalue("redis_server") if request.param == "real" else None
    return type("Machine", (FrontierMachine,), {"server": server})


def test_limits_hold_no_job_is_lost_and_free_slots_are_used(machine: type[FrontierMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
