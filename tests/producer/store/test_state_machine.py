"""The scripts and a model of the queue, step by step, on an embedded Redis and on a real one.

The test sets the time of the scripts; keys that Redis would expire meanwhile are removed explicitly.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Coroutine
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
from tests.support.queue_model import Model, ModelJob
from tests.support.redis_server import RedisServer
from tests.support.scripted_queue import LEASE_MS, T0, Queue

from fetchq.store.connection import connect
from fetchq_worker.process.embedded import EmbeddedRedis

EXAMPLES = int(os.environ.get("EXAMPLES", "20"))
STEPS = 50

T = TypeVar("T")


class QueueMachine(RuleBasedStateMachine):
    """Producers, workers that crash, freeze and resume, and stock workers, on one queue."""

    server: RedisServer | None = None

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model = Model(T0)
        self.runs: list[tuple[str, str]] = []
        """(id, token) of every run that a worker may still consider its own, ended leases included."""
        self.unacknowledged: list[str] = []
        self.calls = 0

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

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            self.finish_all_remaining()
            self.wait(self.queue.redis.aclose())
        self.runner.close()

    # Time

    @rule(ms=st.sampled_from([1, 700, LEASE_MS // 3, LEASE_MS - 1, LEASE_MS, 3 * LEASE_MS]))
    def let_time_pass(self, ms: int) -> None:
        before = self.model.now_ms
        self.model.now_ms = self.queue.now_ms = before + ms
        gone = [job.id for job in self.model.waiting if not job.is_marked(before + ms)]
        if gone:
            self.wait(self.queue.expire_in_progress(*gone))

    # Producers

    @rule(delay_ms=st.sampled_from([0, 0, 0, 500, LEASE_MS]), count=st.integers(1, 3))
    def enqueue(self, delay_ms: int, count: int) -> None:
        jobs = []
        for _ in range(count):
            job_id = f"job{len(self.model.jobs):04}"
            jobs.append((job_id, f"+{delay_ms}" if delay_ms else "", "", ""))
            self.model.enqueue(job_id, delay_ms)
        assert self.wait(self.queue.enqueue(*jobs)) == []

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.model.jobs)))
        assert self.wait(self.queue.cancel(job_id)) == self.model.cancel(job_id)

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data())
    def abort_as_a_stock_client_does(self, data: st.DataObject) -> None:
        job = self._draw_waiting(data)
        if job.score_ms > self.model.now_ms:
            job.score_ms = 1
            self.wait(self.queue.redis.zadd(self.queue.keys.pending, {job.id: 1}))
        self.wait(self.queue.redis.zadd(self.queue.keys.abort, {job.id: self.queue.now_ms}))

    # Workers

    @rule(count=st.integers(1, 4))
    def claim(self, count: int) -> None:
        token = self._claim(count)
        self.runs += [(job.id, token) for job in self.model.waiting if job.lease and job.lease.token == token]

    @rule(count=st.integers(1, 4))
    def claim_without_a_reply(self, count: int) -> None:
        self.unacknowledged.append(self._claim(count))

    def _claim(self, count: int) -> str:
        self.calls += 1
        token = f"w.{self.calls:x}"
        claim = self.wait(self.queue.claim(count, token=token))
        assert [(job.id, job.score, job.tries) for job in claim.jobs] == self.model.claim(token, count)
        return token

    @precondition(lambda self: self.unacknowledged)
    @rule()
    def return_unacknowledged_claims(self) -> None:
        token = self.unacknowledged.pop()
        assert self.wait(self.queue.return_claims(token)) == self.model.return_claims(token)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        held = data.draw(st.lists(st.sampled_from(self.runs), min_size=1, max_size=4, unique_by=lambda run: run[0]))
        lost = self.wait(self.queue.renew(*held))
        assert lost == [job_id.encode() for job_id, token in held if not self.model.renew(job_id, token)]

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), twice=st.booleans())
    def finish(self, data: st.DataObject, twice: bool) -> None:
        """A worker commits, possibly long after its lease. The reply can be lost, and it commits again."""
        job_id, token = data.draw(st.sampled_from(self.runs))
        self.runs.remove((job_id, token))
        accepted = self.model.finish(job_id, token, f"of {token}")
        expected = [] if accepted else [job_id.encode()]
        assert self.wait(self.queue.finish(job_id, token, f"of {token}")) == (expected, [], b"")
        if twice:
            assert self.wait(self.queue.finish(job_id, token, "again")) == ([job_id.encode()], [], b"")

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), counted=st.booleans(), defer_ms=st.sampled_from([None, 0, 300, LEASE_MS]))
    def requeue(self, data: st.DataObject, counted: bool, defer_ms: int | None) -> None:
        """A retry, or a requeue."""
        job_id, token = data.draw(st.sampled_from(self.runs))
        self.runs.remove((job_id, token))
        accepted = self.model.requeue(job_id, token, counted=counted, defer_ms=defer_ms)
        action = "retry" if counted else "requeue"
        lost, refused, _ = self.wait(self.queue.commit((job_id, token, action, "" if defer_ms is None else defer_ms)))
        assert (lost, refused) == ([] if accepted else [job_id.encode()], [])

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """The worker of a run does nothing more."""
        self.runs.remove(data.draw(st.sampled_from(self.runs)))

    @rule()
    def maintain(self) -> None:
        self.wait(self.queue.maintain())

    # Stock workers

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data())
    def start_as_a_stock_worker_does(self, data: st.DataObject) -> None:
        job = self._draw_waiting(data)
        if job.is_marked(self.model.now_ms) or job.score_ms > self.model.now_ms:
            return
        job.stock_until_ms = self.model.now_ms + LEASE_MS
        keys = self.queue.keys
        self.wait(self.queue.redis.set(keys.in_progress + job.id, "1", px=LEASE_MS))
        counted = self.wait(self.queue.redis.incr(keys.retry + job.id))
        # A first try is counted in its lease only: stock workers see it once a claim has ended the lease.
        assert counted == job.tries + 1 or (counted == 1 and job.tries == 1 and job.lease is not None)
        job.tries = counted

    @precondition(lambda self: self._stocks())
    @rule(data=st.data(), finished=st.booleans())
    def end_as_a_stock_worker_does(self, data: st.DataObject, finished: bool) -> None:
        job = data.draw(st.sampled_from(self._stocks()))
        job.stock_until_ms = job.mark_until_ms = None
        keys, redis = self.queue.keys, self.queue.redis
        if finished:
            job.result, job.lease = "of stock", None
            self.wait(redis.set(keys.result + job.id, "of stock"))
            self.wait(redis.delete(keys.in_progress + job.id, keys.job + job.id, keys.retry + job.id))
            self.wait(redis.zrem(keys.pending, job.id))
        else:
            self.wait(redis.delete(keys.in_progress + job.id))

    def _stocks(self) -> list[ModelJob]:
        return [job for job in self.model.waiting if job.is_stocks(self.model.now_ms)]

    def _draw_waiting(self, data: st.DataObject) -> ModelJob:
        return self.model.jobs[data.draw(st.sampled_from(sorted(job.id for job in self.model.waiting)))]

    # What must always hold

    @invariant()
    def every_job_exists_once(self) -> None:
        if self.model.jobs:
            self.wait(self._check())

    async def _check(self) -> None:
        keys, ids = self.queue.keys, list(self.model.jobs)
        async with self.queue.redis.pipeline(transaction=True) as pipe:
            pipe.mget([keys.result + job_id for job_id in ids])
            pipe.zmscore(keys.pending, ids)
            pipe.mget([keys.job + job_id for job_id in ids])
            pipe.mget([keys.retry + job_id for job_id in ids])
            pipe.hmget(keys.leases, ids)
            pipe.hgetall(keys.metrics)
            results, scores, payloads, tries, leases, figures = await pipe.execute()
        assert {field.decode(): int(number) for field, number in figures.items()} == self.model.figures()
        for job_id, result, score, payload, tried, lease in zip(
            ids, results, scores, payloads, tries, leases, strict=True
        ):
            job = self.model.jobs[job_id]
            if job.result is None:
                assert (result, score, payload) == (None, job.score_ms, b"payload"), job
                assert int(tried or lease is not None) == job.tries, job  # a first try is counted in its lease only
            else:
                assert (result, score, payload, tried) == (job.result.encode(), None, None, None), job

    def finish_all_remaining(self) -> None:
        """At the end each job can be run and finished, and no key is left."""
        self.let_time_pass(10 * LEASE_MS)
        if self.model.waiting:
            self.claim(1000)
            for job_id, token in list(self.runs):
                accepted = self.model.finish(job_id, token, f"of {token}")
                lost, _, _ = self.wait(self.queue.finish(job_id, token, f"of {token}"))
                assert lost == ([] if accepted else [job_id.encode()])
        assert self.model.waiting == []
        self.every_job_exists_once()
        self.wait(self.queue.maintain())
        self.wait(self._check_minutes())
        left = {key.decode() for key in self.wait(self.queue.redis.keys())}
        keys = self.queue.keys
        allowed = {
            keys.wake,
            keys.maintenance_cursor,
            keys.abort,
            keys.lease_ends,
            keys.metrics,
            *(key for key in left if key.startswith(keys.minute)),
            *(keys.result + job_id for job_id in self.model.jobs),
        }
        assert left <= allowed

    async def _check_minutes(self) -> None:
        """The minutes add up to the totals."""
        counted: Counter[str] = Counter()
        for key in await self.queue.redis.keys(f"{self.queue.keys.minute}*"):
            counted.update({field.decode(): int(n) for field, n in (await self.queue.redis.hgetall(key)).items()})
        assert counted == self.model.figures()


@pytest.fixture(params=["embedded", "real"])
def machine(request: pytest.FixtureRequest) -> type[QueueMachine]:
    server = request.getfixturevalue("redis_server") if request.param == "real" else None
    return type("Machine", (QueueMachine,), {"server": server})


def test_the_scripts_do_what_the_model_does(machine: type[QueueMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
