"""Admission: the limits of a limit key hold across all workers."""

from __future__ import annotations

import pytest
from tests.producer.store.hosts.one_host import KEY, claim_and_admit, enqueue, ids_of, set_limit
from tests.support.frontier_state import FrontierState
from tests.support.scripted_queue import T0, Queue


@pytest.mark.asyncio
async def test_no_more_jobs_of_a_key_run_than_its_limit_and_the_next_start_as_those_end(queue: Queue) -> None:
    ids = ids_of(20)
    await enqueue(queue, *ids)
    assert await claim_and_admit(queue, 20) == ids[:8]
    assert await claim_and_admit(queue, 20, token="w.2") == []
    await queue.finish(ids[3])
    await queue.finish(ids[5])
    assert await claim_and_admit(queue, 20, token="w.3") == ids[8:10]


@pytest.mark.asyncio
async def test_a_stock_clients_job_is_parked_by_its_first_claimer_and_its_try_not_counted(queue: Queue) -> None:
    await set_limit(queue, "c=1")
    await queue.add("first", "second")
    assert await claim_and_admit(queue) == ["first"]
    assert await queue.tries("second") == 0
    assert not await queue.redis.exists(queue.keys.in_progress + "second")
    await queue.finish("first")
    assert await claim_and_admit(queue, token="w.2") == ["second"]


@pytest.mark.asyncio
async def test_a_job_that_waits_for_its_host_is_deferred_to_a_stock_client_and_counted_in_the_queue(
    queue: Queue,
) -> None:
    await set_limit(queue, "c=1")
    await enqueue(queue, "first", "second")
    score = await queue.score("second")
    assert score is not None
    assert T0 < score < 2**53
    assert score == int(score)
    assert await queue.redis.zcard(queue.keys.pending) == 2


@pytest.mark.asyncio
async def test_starts_keep_to_the_rate_and_the_claim_returns_when_the_next_may_start(queue: Queue) -> None:
    await set_limit(queue, "c=100 r=50000")
    await enqueue(queue, *ids_of(3))
    assert await claim_and_admit(queue) == ids_of(3)[:1]
    claim = await queue.claim()
    assert claim.ids == []
    assert 45 < claim.wait_ms <= 55
    queue.now_ms += claim.wait_ms
    assert await claim_and_admit(queue) == ids_of(3)[1:2]


@pytest.mark.asyncio
async def test_a_requeued_job_is_the_next_of_its_host(queue: Queue) -> None:
    await set_limit(queue, "c=1")
    await enqueue(queue, *ids_of(3))
    assert await claim_and_admit(queue) == ids_of(3)[:1]
    await queue.commit((ids_of(3)[0], "w.1", "requeue", ""))
    assert await claim_and_admit(queue, token="w.2") == ids_of(3)[:1]


@pytest.mark.asyncio
async def test_a_waiting_job_that_is_cancelled_is_followed_by_the_next(queue: Queue) -> None:
    await set_limit(queue, "c=1")
    await enqueue(queue, *ids_of(3))
    assert await claim_and_admit(queue) == ids_of(3)[:1]
    assert await queue.cancel(ids_of(3)[1], KEY) == 1
    await queue.finish(ids_of(3)[0])
    assert await claim_and_admit(queue, token="w.2") == ids_of(3)[2:]


@pytest.mark.asyncio
async def test_a_job_that_may_start_since_another_was_cancelled_wakes_a_worker(queue: Queue) -> None:
    await set_limit(queue, "c=1")
    await enqueue(queue, *ids_of(2))
    await queue.redis.delete(queue.keys.wake)
    assert await queue.cancel(ids_of(2)[0], KEY) == 1
    assert await queue.redis.llen(queue.keys.wake) == 1
    assert await claim_and_admit(queue) == ids_of(2)[1:]


@pytest.mark.asyncio
async def test_lanes_are_claimed_in_the_order_that_the_claim_asks_for(queue: Queue) -> None:
    for lane in ("l", "", "h"):
        await enqueue(queue, f"job-{lane or 'd'}", key=f"{lane or 'd'}.example", note=lane)
    assert (await queue.claim(1, lanes="hdl")).ids == ["job-h"]
    assert (await queue.claim(1, lanes="lhd")).ids == ["job-l"]
    assert (await queue.claim(1, lanes="hdl")).ids == ["job-d"]


@pytest.mark.asyncio
async def test_a_deferred_job_is_ready_in_its_lane_when_it_is_due(queue: Queue) -> None:
    await enqueue(queue, "later", due="+1000", note="h")
    assert (await queue.claim()).wait_ms == 1000
    queue.now_ms += 1000
    await enqueue(queue, "now", key="other.example")
    assert (await queue.claim(1)).ids == ["later"]


@pytest.mark.asyncio
async def test_a_waiting_job_is_released_at_its_deadline(queue: Queue) -> None:
    await set_limit(queue, "c=1")
    await enqueue(queue, "first")
    await enqueue(queue, "second", note=str(T0 + 5000))
    assert await claim_and_admit(queue) == ["first"]
    queue.now_ms += 5000
    assert (await queue.claim(token="w.2")).ids == ["second"]


@pytest.mark.asyncio
async def test_nothing_is_claimed_from_a_paused_queue(queue: Queue) -> None:
    await enqueue(queue, "job")
    await queue.redis.set(queue.keys.paused, "1")
    assert (await queue.claim()).ids == []
    await queue.redis.delete(queue.keys.paused)
    assert (await queue.claim()).ids == ["job"]


@pytest.mark.parametrize("host", ["-leading-hyphen.example", "~tilde.example"])
@pytest.mark.asyncio
async def test_a_host_may_begin_with_a_hyphen_or_a_tilde(queue: Queue, host: str) -> None:
    await set_limit(queue, "c=1 r=50000", host)
    await enqueue(queue, *ids_of(2), key=host)
    assert await claim_and_admit(queue, key=host) == ids_of(2)[:1]
    await queue.finish(ids_of(2)[0])
    queue.now_ms += 100
    assert await claim_and_admit(queue, key=host, token="w.2") == ids_of(2)[1:]
    await queue.finish(ids_of(2)[1], "w.2")
    assert not await queue.redis.exists(queue.keys.running)


@pytest.mark.asyncio
async def test_the_limits_of_a_domain_do_not_apply_to_a_key_that_requests_name(queue: Queue) -> None:
    await set_limit(queue, "c=1", "*.example.org")
    await set_limit(queue, "c=2", "key:*")
    await enqueue(queue, *ids_of(4), key="key:a.example.org")
    assert await claim_and_admit(queue, key="key:a.example.org") == ids_of(2)


@pytest.mark.asyncio
async def test_a_job_with_its_own_limit_key_respects_its_host_without_counting_for_it(queue: Queue) -> None:
    await set_limit(queue, "c=1")
    for number in range(3):
        await enqueue(queue, f"job{number}", key=f"key:{number}")
    assert (await queue.claim(1)).ids == ["job0"]
    assert await queue.admit(("job0", "w.1", "key:0", "", KEY)) == []
    await queue.start_cooldown(KEY, 5000)
    assert (await queue.claim(token="w.2")).ids == ["job1", "job2"]
    refused = await queue.admit(("job1", "w.2", "key:1", "", KEY), ("job2", "w.2", "key:2", "", KEY))
    assert refused == ["job1", "job2"]
    queue.now_ms += 5000
    started = []
    for turn in range(3, 6):
        for job_id in (await queue.claim(token=f"w.{turn}")).ids:
            key = f"key:{job_id[-1]}"
            assert await queue.admit((job_id, f"w.{turn}", key, "", KEY)) == []
            started.append(job_id)
            await queue.finish(job_id, f"w.{turn}")
    assert started == ["job1", "job2"]
    await queue.finish("job0")
    queue.now_ms += 600_000
    await queue.claim(token="w.9")
    assert not await queue.redis.exists(queue.keys.hosts)


@pytest.mark.asyncio
async def test_a_producer_ignores_the_host_where_limit_keys_are_something_else(
    queue: Queue,
) -> None:
    await set_limit(queue, "domain", "@by")
    await set_limit(queue, "p=1", "*")
    await enqueue(queue, "host")
    await enqueue(queue, "own", key="key:own")
    assert (await queue.claim()).ids == ["host"]
    assert await queue.redis.zrange(f"{queue.keys.waiting}key:own", 0, -1) == [b"own"]


@pytest.mark.asyncio
async def test_a_retried_job_of_a_lane_stays_in_it(queue: Queue) -> None:
    await enqueue(queue, "high", note="h")
    await enqueue(queue, "low", key="low.example", note="l")
    claim = await queue.claim()
    assert claim.ids == ["high", "low"]
    await queue.commit(*[(job_id, "w.1", "retry", 1000, "", "") for job_id in claim.ids])
    queue.now_ms += 1000
    await enqueue(queue, "default", key="default.example")
    assert [(await queue.claim(1, token=f"w.{n}")).ids for n in (2, 3, 4)] == [["high"], ["default"], ["low"]]


@pytest.mark.asyncio
async def test_an_idle_worker_is_woken_for_a_job_that_may_start_earlier_than_it_knew(queue: Queue) -> None:
    await set_limit(queue, "c=100 r=50000")
    await enqueue(queue, "first")
    assert await claim_and_admit(queue) == ["first"]
    assert await queue.tokens() == 0
    await enqueue(queue, "second")
    assert await queue.tokens() == 1
    assert 45 < (await queue.claim()).wait_ms <= 55
    await enqueue(queue, "third")
    assert await queue.tokens() == 0


@pytest.mark.asyncio
async def test_the_start_of_a_job_under_a_rate_wakes_a_worker_for_the_next(queue: Queue) -> None:
    await set_limit(queue, "c=100 r=50000")
    await enqueue(queue, "first", "second")
    assert await claim_and_admit(queue) == ["first"]
    assert await queue.tokens() == 1


@pytest.mark.asyncio
async def test_the_end_of_a_job_under_a_rate_wakes_a_worker_for_the_next(queue: Queue) -> None:
    await set_limit(queue, "c=1 r=50000")
    await enqueue(queue, "first", "second")
    assert await claim_and_admit(queue) == ["first"]
    assert await queue.tokens() == 0
    await queue.finish("first")
    assert await queue.tokens() == 1


@pytest.mark.asyncio
async def test_a_higher_rate_applies_at_once(queue: Queue) -> None:
    await set_limit(queue, "r=3600000000")
    await enqueue(queue, *ids_of(3))
    assert await claim_and_admit(queue) == ids_of(3)[:1]
    await set_limit(queue, "r=100000")
    await queue.set_limits("", "", "", KEY)
    queue.now_ms += 110
    assert await claim_and_admit(queue, token="w.2") == ids_of(3)[1:2]


@pytest.mark.asyncio
async def test_an_admission_returns_when_the_next_job_of_the_host_may_start(queue: Queue) -> None:
    await set_limit(queue, "c=100 r=50000")
    await enqueue(queue, *ids_of(3))
    assert await claim_and_admit(queue) == ids_of(1)
    assert 45 < queue.next_due_ms <= 55


@pytest.mark.asyncio
async def test_a_commit_returns_when_the_next_job_of_the_host_may_start(queue: Queue) -> None:
    await set_limit(queue, "c=1 r=50000")
    await enqueue(queue, *ids_of(3))
    assert await claim_and_admit(queue) == ids_of(1)
    assert queue.next_due_ms == -1
    turn_ms = (await queue.commit_whole((ids_of(1)[0], "w.1", "finish", 1000))).next_due_ms
    assert 45 < turn_ms <= 55


@pytest.mark.asyncio
async def test_a_worker_is_woken_for_a_start_time_that_it_could_not_know(queue: Queue) -> None:
    await set_limit(queue, "r=50000")
    await enqueue(queue, "first")
    assert await claim_and_admit(queue) == ["first"]
    await queue.redis.delete(queue.keys.wake)
    await enqueue(queue, *ids_of(3))
    assert await queue.redis.llen(queue.keys.wake) == 1


@pytest.mark.asyncio
async def test_a_key_with_slots_for_all_releases_some_thousands_of_jobs_a_call(queue: Queue) -> None:
    await queue.set_limits(KEY, "set", "p=1")
    for start in range(0, 5000, 500):
        await queue.enqueue(*[(f"job{number}", "", KEY, "") for number in range(start, start + 500)])
    await queue.set_limits(KEY, "set", "c=100000 p=0", KEY)
    assert 2000 <= (await FrontierState.read(queue.redis, queue.keys)).record(KEY).ready <= 2500
    claimed: set[str] = set()
    for number in range(6):
        claimed |= set((await queue.claim(1000, token=f"w.{number}")).ids)
    assert len(claimed) == 5000
