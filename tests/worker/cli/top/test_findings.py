"""What is wrong, from the figures alone."""

from __future__ import annotations

import msgspec
import pytest
from tests.worker.cli.top.samples import NOW_MS, busy, state, view, with_state, worker

from fetchq import HostState
from fetchq.client.write.policy import WritePolicy
from fetchq.inspect.workers import WorkerState
from fetchq_worker.cli.top.findings import REFUSED_SHARE, Severity, findings
from fetchq_worker.cli.top.view import LostWorker, ServerState, Snapshot, View
from fetchq_worker.cli.top.words import UNICODE


def sentences(seen: View) -> list[str]:
    return [finding.sentence for finding in findings(seen, UNICODE)]


RUNS = (worker(1, running=10),)
FULL = (worker(1, running=100),)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (with_state(), ["the queue is empty, and no worker is running"]),
        (view(), ["the queue is empty"]),
        (with_state(workers=RUNS, running=10), ["no problem is seen"]),
        (
            with_state(workers=RUNS, running=8, waiting=949),
            ["no problem is seen; 949 jobs wait for the limits of their hosts"],
        ),
        (with_state(deferred=1), ["no worker is running: jobs wait; start one with fetchq worker"]),
        (
            with_state(workers=RUNS, due=5, paused=True, running=10),
            ["the queue is paused: no job starts until p (or fetchq resume); 10 still run"],
        ),
        (
            with_state(workers=(worker(1, state=WorkerState.QUIET), worker(2, state=WorkerState.STOPPING)), due=1),
            ["every worker is quiet or stopping: no job starts"],
        ),
        (
            with_state(workers=(worker(7, heartbeat_ms=NOW_MS - 11_000),)),
            ["worker node-7 (pid 4007) sends no heartbeat for 11.0 s"],
        ),
        (
            with_state(workers=FULL, due=1, oldest_due_s=90.0),
            ["all slots are in use and 1 job is due; the oldest due job waits for 1 min 30 s: add workers"],
        ),
        (
            with_state(workers=RUNS, due=3, oldest_due_s=90.0),
            ["the oldest due job waits for 1 min 30 s although slots are free: look at the log of the workers"],
        ),
        (with_state(workers=FULL, due=500, oldest_due_s=20.0), ["no problem is seen"]),
    ],
)
def test_each_fault_of_the_queue_is_one_sentence(seen: View, expected: list[str]) -> None:
    assert sentences(seen) == expected


@pytest.mark.parametrize(
    ("used", "most", "expected"),
    [
        (10 << 20, 0, "the queue is empty"),
        (None, None, "the queue is empty"),
        (80, 100, "the queue is empty"),
        (90, 100, "Redis is 90% full; from 95% on producers enqueue nothing"),
        (
            97,
            100,
            "Redis is 97% full (97 B of 100 B): nothing is enqueued until workers drain it or it gets more memory",
        ),
        (
            101 << 20,
            100 << 20,
            "Redis is full (101 MiB of 100 MiB): nothing is enqueued until workers drain it or it gets more memory",
        ),
    ],
)
def test_a_redis_that_is_full_or_will_be_soon_is_said(used: int | None, most: int | None, expected: str) -> None:
    calm = (worker(1, running=0),)
    assert sentences(with_state(workers=calm, redis_memory_bytes=used, redis_max_memory_bytes=most)) == [expected]


def test_the_share_at_which_nothing_is_enqueued_is_that_of_producers() -> None:
    assert WritePolicy.of({}).max_memory == REFUSED_SHARE


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (ServerState(), "the queue is empty"),
        (ServerState(cannot_save=True), "Redis cannot save to its disk, and may refuse all writes"),
        (
            ServerState(is_replica=True),
            "this Redis is a replica: what is shown may be late, and nothing can be changed",
        ),
    ],
)
def test_a_redis_that_cannot_save_or_be_changed_is_said(server: ServerState, expected: str) -> None:
    assert sentences(view(msgspec.structs.replace(view().snapshot, server=server))) == [expected]


def test_a_worker_that_was_killed_is_said_with_the_jobs_that_it_had() -> None:
    lost = tuple(LostWorker(worker(number, running=number), NOW_MS - 20_000) for number in (3, 0))
    snapshot = Snapshot(state=state(workers=RUNS, running=3), lost=lost)
    assert sentences(view(snapshot)) == [
        "worker node-3 (pid 4003) is gone without having stopped, last seen 20.0 s ago: its 3 jobs run again when their"
        " leases end",
        "worker node-0 (pid 4000) is gone without having stopped, last seen 20.0 s ago: it had no jobs",
    ]


def test_many_failures_are_named_by_their_outcomes() -> None:
    recent = {"OK": 60, "CONNECT_ERROR": 30, "TIMEOUT": 8, "resize()": 1, "DNS_ERROR": 1, "CANCELLED": 50}
    snapshot = Snapshot(state=state(workers=RUNS, running=1), recent=recent)
    assert sentences(view(snapshot)) == [
        "27% of the jobs of the last 5 min failed: 30 CONNECT_ERROR, 8 TIMEOUT, 1 DNS_ERROR"
    ]
    listed = msgspec.structs.replace(snapshot, state=state(workers=RUNS, running=1, dead_letters=1))
    assert sentences(view(listed))[0].endswith("1 DNS_ERROR; see fetchq dead list")
    retried = Snapshot(
        state=state(workers=RUNS, running=1), recent={"OK": 60}, attempts={"OK": 60, "HTTP_ERROR": 30, "TIMEOUT": 10}
    )
    assert sentences(view(retried)) == ["40% of the attempts of the last 5 min failed: 30 HTTP_ERROR, 10 TIMEOUT"]
    few = Snapshot(state=state(workers=RUNS, running=1), recent={"CONNECT_ERROR": 3})
    assert sentences(view(few)) == ["no problem is seen"]


def test_hosts_in_a_cooldown_and_paused_ones_are_said_with_the_jobs_that_wait_for_them() -> None:
    assert sentences(busy())[1:] == [
        "2 hosts are in a cooldown; 96 jobs wait for broken.example (CONNECT_ERROR, 5 failed in a row, 58.2 s left)",
        "held.example is paused: 7 jobs wait",
    ]
    one = Snapshot(
        state=state(workers=RUNS, waiting=1, hosts_cooling=1),
        hosts=(HostState(host="a.example", cooldown_s=3.0, waiting=1),),
    )
    assert sentences(view(one)) == ["a.example is in a cooldown (3.0 s left); 1 job waits for it"]


def test_an_outage_comes_first_and_says_since_when() -> None:
    seen = msgspec.structs.replace(busy(), problem="Redis at 10.0.0.1:6379 is not reachable", problem_s=75.0)
    found = findings(seen, UNICODE)
    assert found[0].severity is Severity.FAULT
    assert found[0].sentence.startswith("no figures since ")
    assert found[0].sentence.endswith(", for 1 min 15 s: Redis at 10.0.0.1:6379 is not reachable")
    assert [one.severity for one in found] == sorted(one.severity for one in found)
