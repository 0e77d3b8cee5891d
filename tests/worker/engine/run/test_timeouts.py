"""Timeouts cancel the tasks that take too long, and no others."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from fetchq_worker.engine.queue.lease import CancelReason, Lease, LeaseEvent
from fetchq_worker.engine.run.timeouts import Timeouts

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def timeouts() -> Timeouts:
    return Timeouts(asyncio.get_running_loop())


async def _stay(timeouts: Timeouts, seconds: float) -> None:
    with timeouts.limit(seconds):
        await asyncio.Event().wait()


async def test_a_task_that_takes_too_long_gets_a_timeout_error(timeouts: Timeouts) -> None:
    with pytest.raises(TimeoutError):
        await _stay(timeouts, 0.01)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_a_task_that_ends_in_time_is_not_cancelled(timeouts: Timeouts) -> None:
    with timeouts.limit(0.01):
        pass
    await asyncio.sleep(0.05)  # past the end of the timer of that length
    assert repr(timeouts) == "<Timeouts running=0>"


async def test_timeouts_of_different_lengths_end_in_their_order(timeouts: Timeouts) -> None:
    ended: list[float] = []

    async def one(seconds: float) -> None:
        with pytest.raises(TimeoutError):
            await _stay(timeouts, seconds)
        ended.append(seconds)

    async with asyncio.timeout(5):
        await asyncio.gather(*(one(seconds) for seconds in (0.15, 0.02, 0.08, 0.02)))
    assert ended == [0.02, 0.02, 0.08, 0.15]


async def test_a_timeout_that_starts_later_lasts_its_full_length(timeouts: Timeouts) -> None:
    loop = asyncio.get_running_loop()
    first = asyncio.create_task(_stay(timeouts, 0.2))
    await asyncio.sleep(0.1)
    began = loop.time()
    with pytest.raises(TimeoutError):
        await _stay(timeouts, 0.2)
    assert loop.time() - began >= 0.19
    assert isinstance(first.exception(), TimeoutError)


async def test_a_cancellation_by_another_task_stays_a_cancellation(timeouts: Timeouts) -> None:
    staying = asyncio.create_task(_stay(timeouts, 10.0))
    await asyncio.sleep(0)
    staying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await staying
    assert repr(timeouts) == "<Timeouts running=0>"


async def test_a_cancellation_together_with_the_timeout_stays_a_cancellation(timeouts: Timeouts) -> None:
    async def stay() -> None:
        with timeouts.limit(10.0) as limit:
            asyncio.get_running_loop().call_soon(limit.expire)
            await asyncio.Event().wait()

    staying = asyncio.create_task(stay())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(staying.cancel)  # runs after `expire`, before the task does
    with pytest.raises(asyncio.CancelledError):
        await staying


async def test_a_timeout_inside_a_callers_timeout_does_not_replace_it(timeouts: Timeouts) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await _stay(timeouts, 10.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10.0) as outer:
            await _stay(timeouts, 0.01)
    assert not outer.expired()


async def test_a_length_that_is_no_longer_used_is_removed(timeouts: Timeouts) -> None:
    for n in range(1, 20):
        with timeouts.limit(n / 1000):
            pass
    async with asyncio.timeout(5):
        while timeouts._queues:
            await asyncio.sleep(0.005)


async def test_timeouts_cancel_only_runs_that_take_too_long() -> None:
    timeouts = Timeouts(asyncio.get_running_loop())
    ended: list[str] = []

    async def run(name: str, timeout_s: float, for_s: float) -> None:
        mine = Lease(b"job", "w.1", b"", 0, 1)
        mine.task = asyncio.current_task()
        mine.apply(LeaseEvent.START)
        timeouts.start(mine, timeout_s)
        try:
            await asyncio.sleep(for_s)
            ended.append(f"{name} done")
        except asyncio.CancelledError:
            ended.append(f"{name} late {mine.cancel_reason is CancelReason.TIMEOUT}")
        finally:
            timeouts.stop(mine, timeout_s)

    async with asyncio.timeout(5):
        await asyncio.gather(
            run("a", 0.05, 60), run("b", 0.05, 0), run("c", 0.2, 60), run("d", 60, 0.3), run("e", 0.05, 60)
        )
    assert ended == ["b done", "a late True", "e late True", "c late True", "d done"]
