"""Changes of limits bite at once, on jobs that wait already."""

from __future__ import annotations

import pytest
from tests.support.scripted_queue import T0, Queue

KEY = "shop.example.org"


async def _enqueue(queue: Queue, count: int, *, key: str = KEY) -> list[str]:
    ids = [f"{key}-{number:03}" for number in range(count)]
    assert await queue.enqueue(*[(job_id, "", key, "") for job_id in ids]) == []
    return ids


async def _start(queue: Queue, *, key: str = KEY, token: str = "w.1") -> list[str]:
    """The ids of the jobs that one claim and its admission start."""
    claim = await queue.claim(50, token=token)
    refused = await queue.admit(*[(job_id, token, key) for job_id in claim.ids]) if claim.ids else []
    return [job_id for job_id in claim.ids if job_id not in refused]


@pytest.mark.asyncio
async def test_more_concurrency_lets_waiting_jobs_go_and_wakes_a_worker_for_each(queue: Queue) -> None:
    ids = await _enqueue(queue, 30)
    assert await _start(queue) == ids[:8]
    assert await queue.tokens() == 0
    assert await queue.set_limits(KEY, "set", "c=12", KEY) == (b"c=12", False, 4)
    assert await queue.tokens() == 4
    assert await _start(queue, token="w.2") == ids[8:12]


@pytest.mark.asyncio
async def test_less_concurrency_holds_for_jobs_that_stood_already(queue: Queue) -> None:
    ids = await _enqueue(queue, 8)
    await queue.set_limits(KEY, "set", "c=3", KEY)
    assert await _start(queue) == ids[:3]
    assert await _start(queue, token="w.2") == []
    await queue.finish(ids[0])
    assert await _start(queue, token="w.3") == ids[3:4]


@pytest.mark.asyncio
async def test_a_rate_holds_for_jobs_that_wait_already_and_an_idle_worker_hears_when_the_next_turn_is(
    queue: Queue,
) -> None:
    await queue.set_limits(KEY, "set", "p=1", KEY)
    ids = await _enqueue(queue, 5)
    await queue.set_limits(KEY, "set", "c=100 r=1000000 p=0", KEY)
    assert await queue.tokens() == 1
    assert await _start(queue) == ids[:1]
    claim = await queue.claim(token="w.2")
    assert claim.ids == []
    assert 1000 <= claim.wait_ms <= 1050


@pytest.mark.asyncio
async def test_what_is_not_named_stays_and_what_was_not_set_is_not_invented(queue: Queue) -> None:
    assert await queue.set_limits(KEY, "set", "r=5 c=2", KEY) == (b"c=2 r=5", False, 0)
    assert await queue.set_limits(KEY, "set", "r=7 d=100", KEY) == (b"c=2 r=7 d=100", True, 0)
    assert await queue.set_limits(KEY, "clear", "", KEY) == (b"", True, 0)
    assert await queue.set_limits(KEY, "clear", "", KEY) == (b"", False, 0)
    assert not await queue.redis.exists(queue.keys.limits)


@pytest.mark.asyncio
async def test_a_paused_host_starts_nothing_that_stood_or_waited_and_goes_on_where_it_was(queue: Queue) -> None:
    ids = await _enqueue(queue, 12)
    await queue.set_limits(KEY, "set", "p=1", KEY)
    assert await _start(queue) == []
    assert await queue.redis.zcard(queue.keys.waiting + KEY) == 12
    assert all([await queue.tries(job_id) == 0 for job_id in ids])
    queue.now_ms += 3_600_000
    assert await _start(queue, token="w.2") == []
    assert await queue.set_limits(KEY, "resume", "", KEY) == (b"", True, 8)
    assert await _start(queue, token="w.3") == ids[:8]


@pytest.mark.asyncio
async def test_a_host_is_resumed_though_a_wider_name_is_paused(queue: Queue) -> None:
    await queue.set_limits("*.example.org", "set", "p=1 c=2")
    ids = await _enqueue(queue, 3)
    assert await _start(queue) == []
    assert await queue.set_limits(KEY, "resume", "", KEY) == (b"p=0", False, 2)
    assert await _start(queue, token="w.2") == ids[:2]


@pytest.mark.asyncio
async def test_many_keys_are_looked_at_again_in_one_call(queue: Queue) -> None:
    await queue.set_limits("*", "set", "c=1")
    keys = [f"h{number}.example" for number in range(50)]
    for key in keys:
        await _enqueue(queue, 3, key=key)
    await queue.set_limits("*", "set", "c=3")
    assert await queue.set_limits("", "", "", *keys) == (b"", False, 100)
    assert len((await queue.claim(200)).ids) == 150
    assert not await queue.redis.exists(queue.keys.backlog)


@pytest.mark.asyncio
async def test_looking_at_a_host_that_nobody_has_heard_of_leaves_nothing_behind(queue: Queue) -> None:
    await queue.set_limits("nobody.example", "set", "c=1", "nobody.example")
    assert not await queue.redis.exists(queue.keys.hosts, queue.keys.due_hosts)


@pytest.mark.asyncio
async def test_a_paused_host_keeps_its_cooling_off_and_its_rate(queue: Queue) -> None:
    await queue.set_limits(KEY, "set", "c=10 r=10000000", KEY)
    ids = await _enqueue(queue, 3)
    assert await _start(queue) == ids[:1]
    await queue.set_limits(KEY, "set", "p=1", KEY)
    await queue.set_limits(KEY, "resume", "", KEY)
    assert await _start(queue, token="w.2") == []
    queue.now_ms = T0 + 10_400
    assert await _start(queue, token="w.3") == ids[1:2]


@pytest.mark.parametrize("others", [0, 1000], ids=["few limits", "many limits"])
@pytest.mark.asyncio
async def test_the_narrowest_limit_holds_however_many_are_set(queue: Queue, others: int) -> None:
    if others:
        await queue.redis.hset(queue.keys.limits, mapping={f"other{number}.example": "c=5" for number in range(others)})
    await queue.set_limits(KEY, "set", "c=2")
    await _enqueue(queue, 20)
    await _enqueue(queue, 20, key="www.example.com")
    assert len((await queue.claim(50)).ids) == 2 + 8
    assert await queue.set_limits("*.example.com", "set", "c=9", "www.example.com") == (b"c=9", False, 1)
    assert await queue.set_limits("*", "set", "c=12", KEY, "www.example.com") == (b"c=12", False, 0)
    assert await queue.set_limits(KEY, "clear", "", KEY) == (b"", True, 10)
    assert await queue.set_limits("*.example.com", "clear", "", "www.example.com") == (b"", True, 3)
