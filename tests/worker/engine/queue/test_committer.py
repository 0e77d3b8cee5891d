"""The committer: batches, order while Redis is unavailable, and shutdown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.exceptions import ConnectionError as RedisConnectionError

from fetchq.store.keys import Keys
from fetchq.store.runner import MAX_JOBS_A_CALL
from fetchq_worker.engine.queue.commit import FULL_BATCH, Committer
from fetchq_worker.engine.queue.lease import Lease
from fetchq_worker.engine.queue.outcome import Action, Outcome
from fetchq_worker.telemetry.telemetry import Telemetry

pytestmark = pytest.mark.asyncio

FIELDS_BEFORE_JOBS, FIELDS_ALIKE, FIELDS_A_JOB = 14, 8, 2


def lease(number: int = 0) -> Lease:
    return Lease(b"%d" % number, "w.1", b"", 0, 1)


def ids_of(args: list[Any]) -> list[Any]:
    """The ids of the jobs in a commit, group by group."""
    ids, at = [], FIELDS_BEFORE_JOBS
    while at < len(args):
        first, at = at + FIELDS_ALIKE, at + FIELDS_ALIKE + FIELDS_A_JOB * args[at]
        ids += args[first:at:FIELDS_A_JOB]
    return ids


class Link:
    """A script whose connection the test can break or hold. It records the ids of each call."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.broken = False
        self.held: asyncio.Event | None = None
        self.lost: list[bytes] = []
        self.replies_with: Any = None

    async def run(self, script: str, keys: Any, args: Any, *, on_sent: Any = None) -> Any:
        if self.held is not None:
            await self.held.wait()
        if self.broken:
            raise RedisConnectionError("away")
        self.calls.append(ids_of(args))
        return self.replies_with or [self.lost, [], b"", 0]


@pytest.fixture
def link() -> Link:
    return Link()


@pytest_asyncio.fixture
async def committer(link: Link) -> AsyncIterator[Committer]:
    committer = Committer(
        Keys(),
        dead_letter_ttl_ms=60_000,
        dead_letter_max=0,
        delay_s=0.05,
        on_commit=lambda next_due_s: None,
        telemetry=Telemetry(),
    )
    committer.use(link)
    yield committer
    await committer.aclose()


async def test_outcomes_are_committed_together_after_the_delay(committer: Committer, link: Link) -> None:
    for number in range(5):
        committer.add(Outcome(lease(number), Action.FINISH))
        await asyncio.sleep(0)
    assert link.calls == []
    await asyncio.sleep(0.1)
    assert link.calls == [[b"0", b"1", b"2", b"3", b"4"]]


async def test_a_full_batch_does_not_wait(committer: Committer, link: Link) -> None:
    for number in range(FULL_BATCH):
        committer.add(Outcome(lease(number), Action.FINISH))
    await asyncio.sleep(0.01)
    assert [len(call) for call in link.calls] == [FULL_BATCH]


async def test_commits_are_bounded_by_number_and_by_bytes(committer: Committer, link: Link) -> None:
    for number in range(2500):
        committer.add(Outcome(lease(number), Action.FINISH))
    for number in range(3):
        committer.add(Outcome(lease(number), Action.FINISH, result=bytes(5 << 20), result_ttl_ms=1))
    await committer.flush()
    assert [len(call) for call in link.calls] == [MAX_JOBS_A_CALL, MAX_JOBS_A_CALL, 501, 1, 1]
    assert committer.waiting_bytes == 0


async def test_outcomes_wait_in_order_while_redis_is_unavailable(committer: Committer, link: Link) -> None:
    link.broken = True
    for number in range(3):
        committer.add(Outcome(lease(number), Action.FINISH), now=True)
    await asyncio.sleep(0.1)
    assert (committer.backlog, committer.stalled) == (3, True)
    link.broken = False
    committer.add(Outcome(lease(3), Action.FINISH))
    await asyncio.wait_for(committer.flush(), 5)
    assert link.calls == [[b"0", b"1", b"2", b"3"]]
    assert (committer.backlog, committer.stalled) == (0, False)


async def test_a_closed_committer_counts_the_outcome_of_a_call_under_way_as_dropped(
    committer: Committer, link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    link.held = asyncio.Event()
    committer.add(Outcome(lease(), Action.FINISH, result=b"x"), now=True)
    await asyncio.sleep(0.01)
    assert committer.backlog == 1
    started = time.monotonic()
    await committer.aclose()
    assert time.monotonic() - started < 1
    assert "commit.dropped jobs=1" in caplog.text
    assert committer.backlog == 0


async def test_the_first_job_whose_lease_is_lost_is_named(
    committer: Committer, link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    link.lost = [b"job-a", b"job-b"]
    committer.add(Outcome(lease(), Action.FINISH))
    await committer.flush()
    assert "commit.lost jobs=2 first=job-a: another worker holds their leases" in caplog.messages


async def test_a_reply_that_cannot_be_read_is_logged_once_and_the_commit_repeated_after_pauses(
    committer: Committer, link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    link.replies_with = [[], 5]
    committer.add(Outcome(lease(), Action.FINISH), now=True)
    async with asyncio.timeout(5):
        while len(link.calls) < 3:
            await asyncio.sleep(0.01)
    assert len(link.calls) < 10
    link.replies_with = None
    await asyncio.wait_for(committer.flush(), 5)
    assert caplog.text.count("commit.failed") == 1
    assert (committer.backlog, committer.stalled) == (0, False)


async def test_wait_committed_returns_when_the_outcome_is_in_redis(committer: Committer, link: Link) -> None:
    link.held = asyncio.Event()
    outcome = Outcome(lease(), Action.FINISH)
    committer.add(outcome, now=True)
    waiting = asyncio.create_task(committer.wait_committed(outcome))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    link.held.set()
    await asyncio.wait_for(waiting, 5)
