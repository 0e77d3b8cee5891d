"""The limits of attempts end what takes too long, and nothing else."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from fetchq_worker.fetch.http.time_limit import TimeLimits

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def limits() -> TimeLimits:
    return TimeLimits(asyncio.get_running_loop())


async def _stay(limits: TimeLimits, seconds: float) -> None:
    with limits.limit(seconds):
        await asyncio.Event().wait()


async def test_what_takes_longer_ends_with_a_timeout(limits: TimeLimits) -> None:
    with pytest.raises(TimeoutError):
        await _stay(limits, 0.01)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_what_ends_in_time_is_left_alone(limits: TimeLimits) -> None:
    with limits.limit(0.01):
        pass
    await asyncio.sleep(0.05)  # past the moment at which the timer of that length rings
    assert repr(limits) == "<TimeLimits running=0>"


async def test_many_limits_of_different_lengths_end_in_their_order(limits: TimeLimits) -> None:
    ended: list[float] = []

    async def one(seconds: float) -> None:
        with pytest.raises(TimeoutError):
            await _stay(limits, seconds)
        ended.append(seconds)

    async with asyncio.timeout(5):
        await asyncio.gather(*(one(seconds) for seconds in (0.15, 0.02, 0.08, 0.02)))
    assert ended == [0.02, 0.02, 0.08, 0.15]


async def test_one_that_begins_later_has_all_of_its_time(limits: TimeLimits) -> None:
    loop = asyncio.get_running_loop()
    first = asyncio.create_task(_stay(limits, 0.2))
    await asyncio.sleep(0.1)
    began = loop.time()
    with pytest.raises(TimeoutError):
        await _stay(limits, 0.2)
    assert loop.time() - began >= 0.19
    assert isinstance(first.exception(), TimeoutError)


async def test_a_cancellation_by_somebody_else_stays_one(limits: TimeLimits) -> None:
    staying = asyncio.create_task(_stay(limits, 10.0))
    await asyncio.sleep(0)
    staying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await staying
    assert repr(limits) == "<TimeLimits running=0>"


async def test_a_cancellation_that_meets_the_end_of_the_time_stays_one(limits: TimeLimits) -> None:
    async def stay() -> None:
        with limits.limit(10.0) as limit:
            asyncio.get_running_loop().call_soon(limit.expire)
            await asyncio.Event().wait()

    staying = asyncio.create_task(stay())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(staying.cancel)  # runs after `expire`, before the task does
    with pytest.raises(asyncio.CancelledError):
        await staying


async def test_a_limit_within_a_callers_own_timeout_does_not_take_its_place(limits: TimeLimits) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await _stay(limits, 10.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10.0) as outer:
            await _stay(limits, 0.01)
    assert not outer.expired()


async def test_a_length_that_is_no_longer_in_use_is_forgotten(limits: TimeLimits) -> None:
    for n in range(1, 20):
        with limits.limit(n / 1000):
            pass
    async with asyncio.timeout(5):
        while limits._queues:
            await asyncio.sleep(0.005)
