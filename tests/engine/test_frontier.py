"""The frontier's scripts: limits of a key, held across all workers."""

from __future__ import annotations

import pytest
from tests.engine.scripted_queue import LEASE_MS, T0, Queue

KEY = "example.org"


async def _enqueue(queue: Queue, *job_ids: str, key: str = KEY, due: str = "", note: str = "") -> None:
    assert await queue.enqueue(*[(job_id, due, key, note) for job_id in job_ids]) == []


async def _claim_and_admit(queue: Queue, count: int = 10, *, key: str = KEY, token: str = "w.1") -> list[str]:
    """The ids of the jobs that start."""
    claim = await queue.claim(count, token=token)
    refused = await queue.admit(*[(job_id, token, key) for job_id in claim.ids]) if claim.ids else []
    return [job_id for job_id in claim.ids if job_id not in refused]


async def _limit(queue: Queue, limits: str, key: str = KEY) -> None:
    await queue.redis.hset(queue.keys.limits, key, limits)


def _ids(count: int) -> list[str]:
    return [f"job{number:05}" for number in range(count)]


@pytest.mark.asyncio
async def test_no_more_jobs_of_a_key_run_than_its_limit_and_the_next_start_as_those_end(queue: Queue) -> None:
    ids = _ids(20)
    await _enqueue(queue, *ids)
    assert await _claim_and_admit(queue, 20) == ids[:8]
    assert await _claim_and_admit(queue, 20, token="w.2") == []
    await queue.finish(ids[3])
    await queue.finish(ids[5])
    assert await _claim_and_admit(queue, 20, token="w.3") == ids[8:10]


@pytest.mark.asyncio
async def test_a_stock_clients_job_is_parked_by_its_first_claimer_and_its_try_not_counted(queue: Queue) -> None:
    await _limit(queue, "c=1")
    await queue.add("first", "second")
    assert await _claim_and_admit(queue) == ["first"]
    assert await queue.tries("second") == 0
    assert not await queue.redis.exists(queue.keys.in_progress + "second")
    await queue.finish("first")
    assert await _claim_and_admit(queue, token="w.2") == ["second"]


@pytest.mark.asyncio
async def test_a_job_that_waits_for_its_host_is_deferred_to_a_stock_client_and_counted_in_the_queue(
    queue: Queue,
) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, "first", "second")
    score = await queue.score("second")
    assert score is not None
    assert T0 < score < 2**53
    assert score == int(score)
    assert await queue.redis.zcard(queue.keys.pending) == 2


@pytest.mark.asyncio
async def test_starts_keep_to_the_rate_and_the_claim_tells_when_the_next_turn_comes(queue: Queue) -> None:
    await _limit(queue, "c=100 r=50000")
    await _enqueue(queue, *_ids(3))
    assert await _claim_and_admit(queue) == _ids(3)[:1]
    claim = await queue.claim()
    assert claim.ids == []
    assert 45 < claim.wait_ms <= 55
    queue.now_ms += claim.wait_ms
    assert await _claim_and_admit(queue) == _ids(3)[1:2]


@pytest.mark.asyncio
async def test_a_dead_workers_slot_is_free_when_its_lease_ends(queue: Queue) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, "first", "second")
    assert await _claim_and_admit(queue) == ["first"]
    queue.now_ms += LEASE_MS
    await queue.forget_in_progress("first")
    assert await _claim_and_admit(queue, token="w.2") == ["first"]
    assert await queue.finish("first", "w.2") == ([], [], b"")
    assert await _claim_and_admit(queue, token="w.3") == ["second"]


@pytest.mark.asyncio
async def test_a_run_that_renews_its_lease_after_its_end_counts_again(queue: Queue) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, "first", "second")
    assert await _claim_and_admit(queue) == ["first"]
    queue.now_ms += LEASE_MS
    await queue.claim(only=["nothing"])  # any claim gives ended leases back
    assert await queue.renew(("first", "w.1")) == []
    assert await _claim_and_admit(queue, token="w.2") == []
    await queue.finish("first")
    assert await _claim_and_admit(queue, token="w.3") == ["second"]


@pytest.mark.asyncio
async def test_a_job_given_back_is_the_next_of_its_host(queue: Queue) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, *_ids(3))
    assert await _claim_and_admit(queue) == _ids(3)[:1]
    await queue.commit((_ids(3)[0], "w.1", "release", ""))
    assert await _claim_and_admit(queue, token="w.2") == _ids(3)[:1]


@pytest.mark.asyncio
async def test_a_waiting_job_that_is_cancelled_leaves_its_place_to_the_next(queue: Queue) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, *_ids(3))
    assert await _claim_and_admit(queue) == _ids(3)[:1]
    assert await queue.cancel(_ids(3)[1], KEY) == 1
    await queue.finish(_ids(3)[0])
    assert await _claim_and_admit(queue, token="w.2") == _ids(3)[2:]


@pytest.mark.asyncio
async def test_a_lane_goes_first_and_another_order_of_lanes_lets_the_low_one_go(queue: Queue) -> None:
    for lane in ("l", "", "h"):
        await _enqueue(queue, f"job-{lane or 'd'}", key=f"{lane or 'd'}.example", note=lane)
    assert (await queue.claim(1, lanes="hdl")).ids == ["job-h"]
    assert (await queue.claim(1, lanes="lhd")).ids == ["job-l"]
    assert (await queue.claim(1, lanes="hdl")).ids == ["job-d"]


@pytest.mark.asyncio
async def test_a_deferred_job_of_a_lane_stands_in_its_lane_when_it_is_due(queue: Queue) -> None:
    await _enqueue(queue, "later", due="+1000", note="h")
    assert (await queue.claim()).wait_ms == 1000
    queue.now_ms += 1000
    await _enqueue(queue, "now", key="other.example")
    assert (await queue.claim(1)).ids == ["later"]


@pytest.mark.asyncio
async def test_a_waiting_job_comes_up_at_its_deadline(queue: Queue) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, "first")
    await _enqueue(queue, "second", note=str(T0 + 5000))
    assert await _claim_and_admit(queue) == ["first"]
    queue.now_ms += 5000
    assert (await queue.claim(token="w.2")).ids == ["second"]


@pytest.mark.asyncio
async def test_what_is_known_of_an_idle_host_is_forgotten(queue: Queue) -> None:
    await _limit(queue, "r=1000000")
    await _enqueue(queue, "only")
    assert await _claim_and_admit(queue) == ["only"]
    await queue.finish("only")
    queue.now_ms += 2000
    await queue.claim()
    for key in (queue.keys.hosts, queue.keys.turns, queue.keys.depths, queue.keys.running, queue.keys.cooling):
        assert not await queue.redis.exists(key)


@pytest.mark.asyncio
async def test_failed_connections_let_a_host_cool_off_and_then_one_job_tries(queue: Queue) -> None:
    await _enqueue(queue, *_ids(30))
    started = await _claim_and_admit(queue)
    for job_id in started[:5]:
        await queue.commit((job_id, "w.1", "finish", 1000, "", "x", "-CONNECT_ERROR"))
    assert await _claim_and_admit(queue, token="w.2") == []
    for job_id in started[5:]:
        await queue.commit((job_id, "w.1", "finish", 1000, "", "x", "=TIMEOUT"))
    queue.now_ms += 13_000
    probe = await _claim_and_admit(queue, token="w.3")
    assert len(probe) == 1
    await queue.commit((probe[0], "w.3", "finish", 1000, "", "x", "+OK"))
    assert len(await _claim_and_admit(queue, token="w.4")) == 8


@pytest.mark.asyncio
async def test_a_paused_queue_gives_nothing_out(queue: Queue) -> None:
    await _enqueue(queue, "job")
    await queue.redis.set(queue.keys.paused, "1")
    assert (await queue.claim()).ids == []
    await queue.redis.delete(queue.keys.paused)
    assert (await queue.claim()).ids == ["job"]


@pytest.mark.asyncio
async def test_an_idle_worker_is_woken_where_a_job_gets_a_turn_before_those_that_it_knows_of(queue: Queue) -> None:
    await _limit(queue, "c=100 r=50000")
    await _enqueue(queue, "first")
    assert await _claim_and_admit(queue) == ["first"]
    assert await queue.tokens() == 0
    await _enqueue(queue, "second")
    assert await queue.tokens() == 1
    assert 45 < (await queue.claim()).wait_ms <= 55
    await _enqueue(queue, "third")
    assert await queue.tokens() == 0


@pytest.mark.asyncio
async def test_who_starts_a_job_of_a_host_with_a_rate_wakes_a_worker_for_the_next(queue: Queue) -> None:
    await _limit(queue, "c=100 r=50000")
    await _enqueue(queue, "first", "second")
    assert await _claim_and_admit(queue) == ["first"]
    assert await queue.tokens() == 1


@pytest.mark.asyncio
async def test_who_finishes_a_job_of_a_host_with_a_rate_wakes_a_worker_for_the_next(queue: Queue) -> None:
    await _limit(queue, "c=1 r=50000")
    await _enqueue(queue, "first", "second")
    assert await _claim_and_admit(queue) == ["first"]
    assert await queue.tokens() == 0
    await queue.finish("first")
    assert await queue.tokens() == 1


@pytest.mark.asyncio
async def test_a_rate_that_is_raised_does_not_hold_back_what_the_old_one_would_have(queue: Queue) -> None:
    await _limit(queue, "r=3600000000")
    await _enqueue(queue, *_ids(3))
    assert await _claim_and_admit(queue) == _ids(3)[:1]
    await _limit(queue, "r=100000")
    await queue.set_limits("", "", "", KEY)
    queue.now_ms += 110
    assert await _claim_and_admit(queue, token="w.2") == _ids(3)[1:2]
