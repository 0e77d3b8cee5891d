"""The engine's parts that can be looked at by themselves: the bell, deadlines, the committer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.exceptions import ConnectionError as RedisConnectionError

from fetchq.store.engine_scripts import MAX_JOBS_A_CALL
from fetchq.store.keys import Keys
from fetchq.tasks import cancel_and_wait
from fetchq_worker.engine.queue.commit import FULL_BATCH, Action, Committer, Outcome
from fetchq_worker.engine.queue.lease import Lease
from fetchq_worker.engine.queue.wakeup import WakeEvent
from fetchq_worker.engine.run.dead_letters import DeadLetters
from fetchq_worker.engine.run.timeouts import Timeouts

pytestmark = pytest.mark.asyncio

FIELDS_BEFORE_JOBS, FIELDS_ALIKE, FIELDS_A_JOB = 12, 7, 2


def lease(number: int = 0) -> Lease:
    return Lease(b"%d" % number, "w.1", b"", 0, 1)


def ids_of(args: list[Any]) -> list[Any]:
    """Of which jobs a commit speaks: of some that are alike in all but the result, then of others."""
    ids, at = [], FIELDS_BEFORE_JOBS
    while at < len(args):
        first, at = at + FIELDS_ALIKE, at + FIELDS_ALIKE + FIELDS_A_JOB * args[at]
        ids += args[first:at:FIELDS_A_JOB]
    return ids


class Link:
    """The way to Redis, which the test can break. It is called as a `Script` is, and remembers what went over it."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.broken = False
        self.held: asyncio.Event | None = None

    async def __call__(self, keys: Any, args: list[Any]) -> Any:
        if self.held is not None:
            await self.held.wait()
        if self.broken:
            raise RedisConnectionError("away")
        self.calls.append(ids_of(args))
        return [[], [], b"", 0]


@pytest.fixture
def link() -> Link:
    return Link()


@pytest_asyncio.fixture
async def committer(link: Link) -> AsyncIterator[Committer]:
    dead = DeadLetters(Keys(), ttl_s=60, most=0)
    committer = Committer(Keys(), dead, delay_s=0.05, on_commit=lambda next_due_s: None)
    committer.use(link)  # type: ignore[arg-type]
    yield committer
    await committer.aclose()


async def test_a_bell_rung_before_anybody_waits_ends_the_next_wait_only() -> None:
    bell = WakeEvent()
    bell.ring()
    bell.ring()
    assert await bell.wait(60) is True
    assert await bell.wait(0.001) is False


async def test_a_bell_that_is_waited_for_in_a_cancelled_task_rings_for_the_next() -> None:
    bell = WakeEvent()
    waiting = asyncio.create_task(bell.wait(60))
    await asyncio.sleep(0)
    await cancel_and_wait(waiting)
    bell.ring()
    assert await bell.wait(60) is True


async def test_timeouts_cancel_only_runs_that_take_too_long() -> None:
    timeouts = Timeouts(asyncio.get_running_loop())
    ended: list[str] = []

    async def run(name: str, timeout_s: float, for_s: float) -> None:
        mine = lease()
        mine.task = asyncio.current_task()
        mine.running = True
        timeouts.start(mine, timeout_s)
        try:
            await asyncio.sleep(for_s)
            ended.append(f"{name} done")
        except asyncio.CancelledError:
            ended.append(f"{name} late {mine.timed_out}")
        finally:
            timeouts.stop(mine, timeout_s)

    async with asyncio.timeout(5):
        await asyncio.gather(
            run("a", 0.05, 60), run("b", 0.05, 0), run("c", 0.2, 60), run("d", 60, 0.3), run("e", 0.05, 60)
        )
    assert ended == ["b done", "a late True", "e late True", "c late True", "d done"]


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


async def test_outcomes_wait_in_order_while_redis_is_away(committer: Committer, link: Link) -> None:
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


async def test_an_outcome_that_was_on_its_way_when_the_committer_was_cancelled_still_counts(
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


async def test_who_waits_for_a_commit_is_told_when_it_has_landed(committer: Committer, link: Link) -> None:
    link.held = asyncio.Event()
    outcome = Outcome(lease(), Action.FINISH)
    committer.add(outcome, now=True)
    waiting = asyncio.create_task(committer.wait_committed(outcome))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    link.held.set()
    await asyncio.wait_for(waiting, 5)


async def test_a_task_that_loses_a_cancellation_is_ended_all_the_same() -> None:
    lost = 0

    async def stubborn() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
                if lost == 2:
                    raise

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(cancel_and_wait(task), 5)
    assert task.cancelled()
    assert lost == 2
