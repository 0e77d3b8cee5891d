"""The queue of a limit key in several chunks: it keeps its order, and no job is lost, whatever happens to a chunk."""

from __future__ import annotations

import random

import pytest
from arq.connections import ArqRedis
from tests.support.frontier_state import FrontierState
from tests.support.scripted_queue import Queue

KEY = "a.example"
LANES = {"h": -600_000, "": 0, "l": 600_000}


@pytest.fixture
def queue(small_chunks: int, queue: Queue) -> Queue:
    """With chunks of a few jobs."""
    return queue


async def _fill(queue: Queue, count: int, *, ms_apart: int = 1, lanes: str | None = None) -> dict[str, float]:
    """Enqueues waiting jobs and returns their places, in ms since the epoch. The key is left paused."""
    draw = random.Random(count)
    await queue.set_limits(KEY, "set", "c=1000 p=1", KEY)
    moments: dict[str, float] = {}
    for number in range(count):
        lane = draw.choice(["h", "", "l"]) if lanes is None else lanes
        job_id = f"{draw.randrange(10**6):06}-{number}"
        assert await queue.enqueue((job_id, "", KEY, lane)) == []
        moments[job_id] = queue.now_ms + LANES[lane]
        queue.now_ms += ms_apart
    return moments


async def _state(queue: Queue) -> FrontierState:
    """Reads the state, which checks the chunks."""
    state = await FrontierState.read(queue.redis, queue.keys)
    state.check_counters(queue.now_ms)
    return state


async def _start_one_by_one(queue: Queue, count: int) -> list[str]:
    """Starts `count` jobs in the order in which the key releases them."""
    await queue.set_limits(KEY, "set", "c=1 p=0", KEY)
    started = []
    for number in range(count):
        token = f"w.{number}"
        [job_id] = (await queue.claim(2, token=token)).ids
        assert await queue.admit((job_id, token, KEY)) == []
        await queue.finish(job_id, token)
        started.append(job_id)
    return started


async def _start_all(queue: Queue) -> set[str]:
    started: set[str] = set()
    await queue.set_limits(KEY, "set", "c=1000 p=0", KEY)
    for number in range(50):
        token = f"w.{number}"
        queue.now_ms += 1000
        if ids := (await queue.claim(1000, token=token)).ids:
            assert await queue.admit(*[(job_id, token, KEY) for job_id in ids]) == []
            await queue.commit(*[(job_id, token, "finish", 1000, "", "done", "+OK") for job_id in ids])
            assert not started & set(ids)
            started |= set(ids)
        await queue.maintain()
    return started


async def _nothing_is_left(queue: Queue) -> bool:
    return not await queue.redis.keys(queue.keys.waiting + "*") and not await queue.redis.exists(queue.keys.backlog)


@pytest.mark.parametrize("ms_apart", [0, 1, 100_000], ids=["in one ms", "a ms apart", "far apart"])
@pytest.mark.asyncio
async def test_jobs_are_released_oldest_first_within_a_lane(queue: Queue, ms_apart: int) -> None:
    moments = await _fill(queue, 60, ms_apart=ms_apart)
    state = await _state(queue)
    assert state.chunks[KEY] >= 5
    started = await _start_one_by_one(queue, 60)
    assert [moments[job_id] for job_id in started] == sorted(moments.values())
    assert await _nothing_is_left(queue)


@pytest.mark.asyncio
async def test_more_jobs_due_in_one_ms_than_it_has_places_are_released_before_later_ones(
    queue: Queue,
) -> None:
    first = await _fill(queue, 30, ms_apart=0, lanes="")
    queue.now_ms += 1
    later = await _fill(queue, 10, ms_apart=0, lanes="")
    assert (await _state(queue)).chunks[KEY] > 4
    started = await _start_one_by_one(queue, 40)
    assert set(started[:30]) == first.keys()
    assert set(started[30:]) == later.keys()


@pytest.mark.parametrize("ms_apart", [0, 1])
@pytest.mark.asyncio
async def test_a_cancelled_job_leaves_its_queue_from_any_place(queue: Queue, ms_apart: int) -> None:
    ids = list(await _fill(queue, 40, ms_apart=ms_apart))
    random.Random(1).shuffle(ids)
    for number, job_id in enumerate(ids, 1):
        assert await queue.cancel(job_id, KEY) == 1
        assert len((await _state(queue)).waiting.get(KEY, ())) == 40 - number
    assert await _nothing_is_left(queue)


@pytest.mark.asyncio
async def test_a_job_whose_deadline_has_passed_leaves_the_middle_of_its_queue(queue: Queue) -> None:
    await queue.set_limits(KEY, "set", "p=1", KEY)
    ids = [f"job{number:02}" for number in range(30)]
    for number, job_id in enumerate(ids):
        queue.now_ms += 1
        await queue.enqueue((job_id, "", KEY, f"{queue.now_ms + 1000}" if number == 15 else ""))
    queue.now_ms += 1000
    assert (await queue.claim()).ids == [ids[15]]
    assert await queue.admit((ids[15], "w.1", KEY, "0")) == []
    await queue.finish(ids[15])
    assert (await _state(queue)).record(KEY).waiting == 29


@pytest.mark.asyncio
async def test_a_job_in_the_middle_that_a_stock_client_aborts_is_run_once_and_counted_until_its_release(
    queue: Queue,
) -> None:
    ids = list(await _fill(queue, 20, lanes=""))
    await queue.redis.zadd(queue.keys.pending, {ids[10]: 1})
    assert (await queue.claim(token="w.abort")).ids == [ids[10]]
    assert await queue.admit((ids[10], "w.abort", KEY, "0")) == []
    await queue.finish(ids[10], "w.abort")
    assert (await _state(queue)).record(KEY).waiting == 20
    assert await _start_all(queue) == set(ids) - {ids[10]}
    assert await _nothing_is_left(queue)


@pytest.mark.parametrize("how", ["first", "middle", "index", "all", "wrong first", "wrong middle", "wrong index"])
@pytest.mark.asyncio
async def test_a_chunk_that_another_client_deletes_or_overwrites_loses_no_job(queue: Queue, how: str) -> None:
    ids = set(await _fill(queue, 30, lanes=""))
    first, index = queue.keys.waiting + KEY, f"{queue.keys.waiting}#{KEY}"
    parts = sorted(set(await queue.redis.keys(queue.keys.waiting + "*")) - {first.encode(), index.encode()})
    names = {"first": [first], "middle": [parts[3]], "index": [index], "all": [first, index, *parts]}
    for name in names[how.removeprefix("wrong ")]:
        await queue.redis.delete(name)
        if how.startswith("wrong"):
            await queue.redis.set(name, "mine")
    assert await _start_all(queue) == ids


@pytest.mark.asyncio
async def test_a_queue_of_which_only_the_index_remains_delays_no_job(queue: Queue) -> None:
    ids = set(await _fill(queue, 450, lanes=""))
    index = f"{queue.keys.waiting}#{KEY}".encode()
    parts = [name for name in await queue.redis.keys(queue.keys.waiting + "*") if name != index]
    assert len(parts) > 101
    await queue.redis.delete(*parts)
    assert await _start_all(queue) == ids


@pytest.mark.asyncio
async def test_a_queue_whose_record_was_deleted_is_emptied_and_takes_new_jobs_in_order(queue: Queue) -> None:
    moments = await _fill(queue, 30)
    await queue.redis.delete(queue.keys.hosts, queue.keys.backlog)
    moments |= await _fill(queue, 5, lanes="l")
    started = await _start_one_by_one(queue, 35)
    assert [moments[job_id] for job_id in started] == sorted(moments.values())
    assert await _nothing_is_left(queue)


@pytest.mark.asyncio
async def test_redis_keeps_each_chunk_in_one_listpack(real_redis: ArqRedis) -> None:
    """With its default settings, for ids of up to 64 characters."""
    queue = Queue(real_redis)
    await queue.set_limits(KEY, "set", "p=1", KEY)
    draw = random.Random(1)
    for _ in range(5):
        jobs = [(f"{draw.getrandbits(100):025x}", "", KEY, draw.choice(["", "", "h", "l"])) for _ in range(500)]
        assert await queue.enqueue(*jobs) == []
        queue.now_ms += 1
    state = await FrontierState.read(queue.redis, queue.keys)
    assert len(state.waiting[KEY]) == 2500
    assert state.chunks[KEY] <= 60
    names = [name.decode() for name in await queue.redis.keys(queue.keys.waiting + "*") if b"#a" not in name]
    assert {await queue.redis.object("ENCODING", name) for name in names} == {b"listpack"}
