"""Changes of limits apply at once, also to jobs that already wait."""

from __future__ import annotations

import pytest
from tests.support.scripted_queue import T0, Queue

KEY = "shop.example.org"


async def _enqueue(queue: Queue, count: int, *, key: str = KEY) -> list[str]:
    ids = [f"{key}-{number:03}" for number in range(count)]
    assert await queue.enqueue(*[(job_id, "", key, "") for job_id in ids]) == []
    return ids


async def _start(queue: Queue, *, key: str = KEY, token: str = "w.1") -> list[str]:
    """Returns the ids of the jobs that one claim and its admission start."""
    claim = await queue.claim(50, token=token)
    refused = await queue.admit(*[(job_id, token, key) for job_id in claim.ids]) if claim.ids else []
    return [job_id for job_id in claim.ids if job_id not in refused]


@pytest.mark.asyncio
async def test_more_concurrency_releases_waiting_jobs_and_wakes_a_worker_for_each(queue: Queue) -> None:
    ids = await _enqueue(queue, 30)
    assert await _start(queue) == ids[:8]
    assert await queue.tokens() == 0
    assert await queue.set_limits(KEY, "set", "c=12", KEY) == (b"c=12", False, 4)
    assert await queue.tokens() == 4
    assert await _start(queue, token="w.2") == ids[8:12]


@pytest.mark.asyncio
async def test_less_concurrency_applies_to_jobs_that_were_ready(queue: Queue) -> None:
    ids = await _enqueue(queue, 8)
    await queue.set_limits(KEY, "set", "c=3", KEY)
    assert await _start(queue) == ids[:3]
    assert await _start(queue, token="w.2") == []
    await queue.finish(ids[0])
    assert await _start(queue, token="w.3") == ids[3:4]


@pytest.mark.asyncio
async def test_a_rate_applies_to_waiting_jobs_and_an_idle_worker_learns_when_the_next_may_start(
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
async def test_limits_that_are_not_named_stay_and_none_is_added(queue: Queue) -> None:
    assert await queue.set_limits(KEY, "set", "r=5 c=2", KEY) == (b"c=2 r=5", False, 0)
    assert await queue.set_limits(KEY, "set", "r=7 d=100", KEY) == (b"c=2 r=7 d=100", True, 0)
    assert await queue.set_limits(KEY, "clear", "", KEY) == (b"", True, 0)
    assert await queue.set_limits(KEY, "clear", "", KEY) == (b"", False, 0)
    assert not await queue.redis.exists(queue.keys.limits)


@pytest.mark.asyncio
async def test_a_paused_host_starts_no_ready_or_waiting_job_and_resumes_where_it_was(queue: Queue) -> None:
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
async def test_a_host_is_resumed_while_a_wider_name_is_paused(queue: Queue) -> None:
    await queue.set_limits("*.example.org", "set", "p=1 c=2")
    ids = await _enqueue(queue, 3)
    assert await _start(queue) == []
    assert await queue.set_limits(KEY, "resume", "", KEY) == (b"p=0", False, 2)
    assert await _start(queue, token="w.2") == ids[:2]


@pytest.mark.asyncio
async def test_many_keys_are_rechecked_in_one_call(queue: Queue) -> None:
    await queue.set_limits("*", "set", "c=1")
    keys = [f"h{number}.example" for number in range(50)]
    for key in keys:
        await _enqueue(queue, 3, key=key)
    await queue.set_limits("*", "set", "c=3")
    assert await queue.set_limits("", "", "", *keys) == (b"", False, 100)
    assert len((await queue.claim(200)).ids) == 150
    assert not await queue.redis.exists(queue.keys.backlog)


@pytest.mark.asyncio
async def test_rechecking_an_unknown_host_leaves_no_key(queue: Queue) -> None:
    await queue.set_limits("nobody.example", "set", "c=1", "nobody.example")
    assert not await queue.redis.exists(queue.keys.hosts, queue.keys.due_hosts)


@pytest.mark.asyncio
async def test_a_paused_host_keeps_its_cooldown_and_its_rate(queue: Queue) -> None:
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
async def test_the_narrowest_limit_applies_however_many_are_set(queue: Queue, others: int) -> None:
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
