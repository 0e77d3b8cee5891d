"""The records of limit keys are repaired after crashes, stock workers and clients that delete keys."""

from __future__ import annotations

import pytest
from tests.producer.store.hosts.one_host import KEY, claim_and_admit, enqueue, ids_of, set_limit
from tests.support.frontier_state import FrontierState
from tests.support.scripted_queue import LEASE_MS, T0, Queue

from fetchq.store.records import HostRecord
from fetchq_worker.engine.queue.admission import WILL_NOT_RUN


@pytest.mark.asyncio
async def test_a_dead_workers_slot_is_free_when_its_lease_ends(queue: Queue) -> None:
    await set_limit(queue, "c=1")
    await enqueue(queue, "first", "second")
    assert await claim_and_admit(queue) == ["first"]
    queue.now_ms += LEASE_MS
    await queue.expire_in_progress("first")
    assert await claim_and_admit(queue, token="w.2") == ["first"]
    assert await queue.finish("first", "w.2") == ([], [], b"")
    assert await claim_and_admit(queue, token="w.3") == ["second"]


@pytest.mark.asyncio
async def test_a_run_that_renews_its_lease_after_its_end_counts_again(queue: Queue) -> None:
    await set_limit(queue, "c=1")
    await enqueue(queue, "first", "second")
    assert await claim_and_admit(queue) == ["first"]
    queue.now_ms += LEASE_MS
    await queue.claim(only=["nothing"])  # any claim ends expired leases
    assert await queue.renew(("first", "w.1")) == []
    assert await claim_and_admit(queue, token="w.2") == []
    await queue.finish("first")
    assert await claim_and_admit(queue, token="w.3") == ["second"]


@pytest.mark.asyncio
async def test_the_record_of_an_idle_host_is_removed(queue: Queue) -> None:
    await set_limit(queue, "r=1000000")
    await enqueue(queue, "only")
    assert await claim_and_admit(queue) == ["only"]
    await queue.finish("only")
    queue.now_ms += 2000
    await queue.claim()
    for key in (queue.keys.hosts, queue.keys.due_hosts, queue.keys.backlog, queue.keys.running, queue.keys.cooldowns):
        assert not await queue.redis.exists(key)


@pytest.mark.asyncio
async def test_a_record_of_jobs_that_stock_workers_took_is_removed(queue: Queue) -> None:
    await enqueue(queue, *ids_of(3))
    await enqueue(queue, "there", key="other.example")
    await queue.redis.zrem(queue.keys.pending, *ids_of(3))
    await queue.maintain()
    queue.now_ms += 60_000
    assert (await queue.claim()).ids == ["there"]
    assert await queue.admit(("there", "w.1", "other.example")) == []
    await queue.finish("there")
    assert not await queue.redis.exists(queue.keys.hosts)
    assert not await queue.redis.exists(queue.keys.due_hosts)


async def _records(queue: Queue) -> dict[str, HostRecord]:
    return (await FrontierState.read(queue.redis, queue.keys)).records


@pytest.mark.asyncio
@pytest.mark.parametrize("comes_up_by", ["release", "its deadline", "an abort"])
async def test_a_job_that_will_not_be_run_frees_its_slot(queue: Queue, comes_up_by: str) -> None:
    await set_limit(queue, "c=1")
    await enqueue(queue, *ids_of(2))
    await enqueue(queue, "over", note=str(T0 + 5000) if comes_up_by == "its deadline" else "")
    assert await claim_and_admit(queue) == ids_of(1)
    if comes_up_by == "its deadline":
        queue.now_ms += 5000
    elif comes_up_by == "an abort":
        await queue.redis.zadd(queue.keys.pending, {"over": 1})
    else:
        await queue.finish(ids_of(1)[0])
        await claim_and_admit(queue, token="w.2")
        await queue.finish(ids_of(2)[1], "w.2")
    assert (await queue.claim(token="w.3")).ids == ["over"]
    assert await queue.admit(("over", "w.3", KEY, WILL_NOT_RUN)) == []
    assert queue.deadline_passed == ["over"]
    record = (await _records(queue)).get(KEY, HostRecord())
    assert (record.ready, record.waiting) == (0, 0 if comes_up_by == "release" else 1)


@pytest.mark.asyncio
async def test_a_run_that_ends_after_its_lease_leaves_no_job_counted_as_ready(queue: Queue) -> None:
    await enqueue(queue, "late")
    assert await claim_and_admit(queue) == ["late"]
    queue.now_ms += LEASE_MS
    await queue.claim(only=["nothing"])
    assert (await _records(queue))[KEY].ready == 1
    await queue.finish("late")
    assert await _records(queue) == {}


@pytest.mark.asyncio
async def test_a_job_that_is_requeued_after_its_lease_is_counted_as_ready_once(queue: Queue) -> None:
    await enqueue(queue, "late")
    assert await claim_and_admit(queue) == ["late"]
    queue.now_ms += LEASE_MS
    await queue.claim(only=["nothing"])
    await queue.return_claims("w.1")
    assert (await _records(queue))[KEY].ready == 1


@pytest.mark.asyncio
async def test_jobs_whose_host_queue_was_deleted_are_requeued(queue: Queue) -> None:
    await set_limit(queue, "c=1")
    await enqueue(queue, *ids_of(4))
    await enqueue(queue, "other", "others", key="other.example", note="l")
    assert await claim_and_admit(queue) == ids_of(1)
    await queue.redis.delete(queue.keys.waiting + KEY)
    await queue.finish(ids_of(1)[0])
    queue.now_ms += 1000
    await queue.maintain()
    for number in range(1, 4):
        assert await claim_and_admit(queue, token=f"w.{number + 1}") == [ids_of(4)[number]]
        await queue.finish(ids_of(4)[number], f"w.{number + 1}")
    await queue.maintain()
    assert not (await FrontierState.read(queue.redis, queue.keys)).jobs_were_lost


@pytest.mark.asyncio
@pytest.mark.parametrize("left", ["queues", "nothing"])
async def test_jobs_are_released_after_another_client_deleted_the_records(queue: Queue, left: str) -> None:
    keys = queue.keys
    await set_limit(queue, "c=1")
    await enqueue(queue, *ids_of(3))
    await queue.redis.delete(keys.hosts, keys.due_hosts)
    if left == "nothing":
        await queue.redis.delete(keys.backlog, keys.waiting + KEY)
    for number in range(3):
        queue.now_ms += 2000
        await queue.maintain()
        assert await claim_and_admit(queue, token=f"w.{number}") == [ids_of(3)[number]]
        await queue.finish(ids_of(3)[number], f"w.{number}")


@pytest.mark.asyncio
async def test_the_record_of_a_host_whose_jobs_others_took_is_removed(queue: Queue) -> None:
    await enqueue(queue, "taken")
    await queue.redis.zrem(queue.keys.pending, "taken")
    assert (await _records(queue))[KEY].ready == 1
    await queue.maintain()
    assert await _records(queue) == {}


@pytest.mark.asyncio
async def test_no_more_jobs_are_released_while_ready_ones_wait_long_for_a_worker(queue: Queue) -> None:
    await set_limit(queue, "c=1")
    await enqueue(queue, "before", key="other.example")
    await enqueue(queue, *ids_of(3))
    for _ in range(5):
        queue.now_ms += 2000
        await queue.claim(only=["nothing"])  # any claim processes due hosts
    assert (await queue.claim()).ids == ["before", *ids_of(1)]


@pytest.mark.asyncio
async def test_the_next_job_is_released_after_a_stock_worker_took_the_ready_one(queue: Queue) -> None:
    await set_limit(queue, "c=1")
    await enqueue(queue, *ids_of(2))
    await queue.redis.zrem(queue.keys.pending, ids_of(1)[0])
    assert (await queue.claim()).ids == []
    queue.now_ms += 1000
    assert (await queue.claim()).ids == ids_of(2)[1:]


@pytest.mark.asyncio
async def test_a_record_that_counts_runs_that_do_not_exist_is_repaired(queue: Queue) -> None:
    await queue.set_limits(KEY, "set", "c=1")
    await queue.redis.hset(queue.keys.hosts, KEY, "1 0 0 0 0 0 0 0 0 OK")
    await queue.enqueue(("a", "", KEY, ""))
    assert (await queue.claim()).ids == []
    await queue.maintain()
    assert (await queue.claim()).ids == ["a"]
    assert await queue.admit(("a", "w.1", KEY)) == []
    await queue.maintain()
    assert (await FrontierState.read(queue.redis, queue.keys)).record(KEY).running == 1
