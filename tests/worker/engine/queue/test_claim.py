"""The claim script."""

from __future__ import annotations

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job
from tests.support.scripted_queue import DAY_MS, LEASE_MS, T0, Queue


@pytest.mark.asyncio
async def test_a_claim_gets_the_jobs_that_have_been_due_longest_up_to_its_count(queue: Queue) -> None:
    await queue.add(*"abcde")
    claim = await queue.claim(3)
    assert claim.ids == ["a", "b", "c"]
    assert claim.more
    assert claim.queued == 5
    assert [job.tries for job in claim.jobs] == [1, 1, 1]
    assert [job.score for job in claim.jobs] == [T0 - 5, T0 - 4, T0 - 3]
    assert (await queue.claim(3)).ids == ["d", "e"]


@pytest.mark.asyncio
async def test_a_deferred_job_is_claimed_when_it_is_due_and_not_before(queue: Queue) -> None:
    await queue.add("later", due_ms=T0 + 700)
    claim = await queue.claim()
    assert claim.ids == []
    assert claim.wait_ms == 700
    assert not claim.more
    queue.now_ms += 700
    assert (await queue.claim()).ids == ["later"]


@pytest.mark.asyncio
async def test_a_running_job_is_not_at_the_head_of_the_queue(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim()
    assert await queue.score("a") == T0 + LEASE_MS
    assert await queue.redis.get(queue.keys.in_progress + "a") == b"w.1"
    assert 0 < await queue.redis.pttl(queue.keys.in_progress + "a") <= LEASE_MS
    assert (await queue.claim(token="w.2")).ids == []


@pytest.mark.asyncio
async def test_a_dead_workers_job_is_next_although_100000_overdue_ones_wait(queue: Queue) -> None:
    await queue.add("dead", due_ms=T0 - 1000)
    assert (await queue.claim(token="dead.1")).ids == ["dead"]
    await queue.add(*(f"overdue-{n}" for n in range(100_000)), due_ms=T0 - 500)
    await queue.expire_in_progress("dead")
    queue.now_ms += LEASE_MS
    claim = await queue.claim(1, token="w.2")
    assert claim.ids == ["dead"]
    assert claim.jobs[0].tries == 2
    assert claim.jobs[0].score == T0 - 1000


@pytest.mark.asyncio
async def test_starts_without_an_outcome_are_counted_one_by_one(queue: Queue) -> None:
    await queue.add("a")
    for start in range(1, 5):
        claim = await queue.claim(token=f"dead.{start}")
        assert [job.tries for job in claim.jobs] == [start]
        await queue.expire_in_progress("a")
        queue.now_ms += LEASE_MS


@pytest.mark.asyncio
async def test_a_run_that_continues_after_its_leases_end_is_one_try(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim()
    await queue.expire_in_progress("a")
    queue.now_ms += LEASE_MS
    await queue.claim(0, token="w.2")
    assert await queue.renew(("a", "w.1")) == []
    await queue.commit(("a", "w.1", "retry"))
    assert [job.tries for job in (await queue.claim(token="w.3")).jobs] == [2]


@pytest.mark.asyncio
async def test_a_dead_workers_try_is_written_down_for_a_stock_worker(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim()
    assert await queue.tries("a") == 0
    await queue.expire_in_progress("a")
    queue.now_ms += LEASE_MS
    await queue.claim(0, token="w.2")
    assert await queue.tries("a") == 1


@pytest.mark.asyncio
async def test_a_job_with_a_live_lease_is_not_claimed(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim(token="one.1")
    queue.now_ms += LEASE_MS - 1
    assert (await queue.claim(token="two.1")).ids == []


@pytest.mark.asyncio
async def test_a_job_that_a_stock_worker_runs_is_skipped_and_not_changed(queue: Queue) -> None:
    await queue.add("theirs", "ours")
    await queue.redis.psetex(queue.keys.in_progress + "theirs", 310_000, b"1")
    before = await queue.score("theirs")
    claim = await queue.claim()
    assert claim.ids == ["ours"]
    assert await queue.score("theirs") == before
    assert await queue.redis.get(queue.keys.in_progress + "theirs") == b"1"
    assert await queue.tries("theirs") == 0
    assert await queue.redis.hget(queue.keys.leases, "theirs") is None


@pytest.mark.asyncio
async def test_foreign_jobs_at_the_head_do_not_block_the_queue_however_many_they_are(queue: Queue) -> None:
    theirs = [f"theirs-{n}" for n in range(7000)]
    await queue.add(*theirs)
    for start in range(0, len(theirs), 1000):
        await queue.redis.mset({queue.keys.in_progress + job_id: b"1" for job_id in theirs[start : start + 1000]})
    await queue.add("ours")
    offset = 0
    for _ in range(10):
        claim = await queue.claim(5, offset=offset)
        offset = claim.offset
        if claim.jobs:
            break
    assert claim.ids == ["ours"]
    assert offset == 0


@pytest.mark.asyncio
async def test_foreign_jobs_wake_no_worker(queue: Queue) -> None:
    """Otherwise idle workers would be woken repeatedly for jobs that they cannot claim."""
    await queue.add("theirs")
    await queue.redis.set(queue.keys.in_progress + "theirs", b"1")
    assert not (await queue.claim()).more
    assert await queue.redis.llen(queue.keys.wake) == 0


@pytest.mark.asyncio
async def test_a_claim_that_leaves_due_jobs_behind_wakes_one_more_worker(queue: Queue) -> None:
    await queue.add(*"abc")
    await queue.claim(1)
    assert await queue.redis.llen(queue.keys.wake) == 1
    await queue.claim(1)
    assert await queue.redis.llen(queue.keys.wake) == 1
    await queue.claim(1)
    assert await queue.redis.llen(queue.keys.wake) == 0


@pytest.mark.asyncio
async def test_wake_tokens_are_removed_when_all_jobs_are_claimed(queue: Queue) -> None:
    await queue.add("a")
    await queue.redis.rpush(queue.keys.wake, *["1"] * 8)
    await queue.claim()
    assert await queue.redis.llen(queue.keys.wake) == 0


@pytest.mark.asyncio
async def test_a_cron_marker_keeps_its_job_from_running_again(queue: Queue) -> None:
    await queue.add("cron")
    await queue.claim()
    await queue.commit(("cron", "w.1", "finish", 0, 60_000))
    assert await queue.redis.pttl(queue.keys.in_progress + "cron") > 50_000
    await queue.add("cron")
    assert (await queue.claim(token="w.2")).ids == []


@pytest.mark.asyncio
async def test_a_running_job_that_a_stock_abort_moved_to_the_front_is_not_claimed_again(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim()
    await queue.redis.zadd(queue.keys.pending, {"a": 1})  # what arq's Job.abort() does to a job that looks deferred
    assert (await queue.claim(token="w.2")).ids == []
    assert await queue.score("a") == T0 + LEASE_MS


@pytest.mark.asyncio
async def test_an_aborted_waiting_job_is_claimed_as_aborted(queue: Queue) -> None:
    await queue.add("a", "b")
    await queue.redis.zadd(queue.keys.abort, {"b": T0})
    assert [(job.id, job.aborted) for job in (await queue.claim()).jobs] == [("a", False), ("b", True)]


@pytest.mark.asyncio
async def test_a_job_with_keys_of_the_wrong_type_harms_no_other(queue: Queue) -> None:
    await queue.add(*"abcde")
    await queue.redis.delete(queue.keys.job + "a", queue.keys.job + "b")
    await queue.redis.rpush(queue.keys.job + "a", "not a string")
    await queue.redis.sadd(queue.keys.retry + "c", "not a number")
    await queue.redis.hset(queue.keys.in_progress + "d", "not", "a string")
    claim = await queue.claim()
    assert claim.ids == ["a", "b", "c", "d", "e"]
    assert [job.payload is None for job in claim.jobs] == [True, True, False, False, False]
    assert [job.tries for job in claim.jobs] == [1, 1, 1, 1, 1]
    lost, refused, _ = await queue.commit(*[(job_id, "w.1", "finish", 1000, "", "x") for job_id in claim.ids])
    assert (lost, refused) == ([], [])
    assert await queue.redis.zcard(queue.keys.pending) == 0
    assert await queue.redis.mget([queue.keys.result + job_id for job_id in claim.ids]) == [b"x"] * 5
    assert await queue.redis.keys("arq:job:*") == []


@pytest.mark.asyncio
async def test_a_claim_returns_a_bounded_number_of_bytes(queue: Queue) -> None:
    await queue.add(*"abcd")
    for job_id in "abcd":
        await queue.redis.set(queue.keys.job + job_id, b"x" * 1000)
    claim = await queue.claim(max_bytes=1500)
    assert claim.ids == ["a", "b"]
    assert claim.more
    assert (await queue.claim(max_bytes=1)).ids == ["c"]


@pytest.mark.asyncio
async def test_a_claim_with_ids_claims_only_those_jobs(queue: Queue) -> None:
    await queue.add(*"abc")
    await queue.add("later", due_ms=T0 + 1)
    assert (await queue.claim(only=["c", "later", "unknown", "b"])).ids == ["c", "b"]


@pytest.mark.asyncio
async def test_the_payload_of_a_stock_job_lives_as_long_as_its_run(queue: Queue) -> None:
    """A stock client sets a TTL of a day; in arq a job that runs or waits for longer is lost as expired."""
    await queue.add("a", due_ms=T0 - DAY_MS + 1000, ttl_ms=1000)
    await queue.claim()
    assert await queue.redis.pttl(queue.keys.job + "a") == -1
    await queue.commit(("a", "w.1", "retry", 5000))
    assert await queue.redis.pttl(queue.keys.job + "a") == -1


@pytest.mark.asyncio
async def test_the_expiry_that_a_client_set_is_restored_when_the_job_is_requeued(queue: Queue) -> None:
    seconds, _ = await queue.redis.time()
    queue.now_ms = seconds * 1000  # an expiry is a moment by Redis's own clock
    await queue.add("a", ttl_ms=60_000)
    await queue.claim()
    assert await queue.redis.pttl(queue.keys.job + "a") == -1
    await queue.commit(("a", "w.1", "retry", 5000))
    assert 50_000 < await queue.redis.pttl(queue.keys.job + "a") <= 60_000


@pytest.mark.asyncio
async def test_a_payload_of_a_stock_client_does_not_expire_while_its_job_waits(queue: Queue) -> None:
    await queue.add(*(f"{n}" for n in range(250)), due_ms=T0 - DAY_MS + 10_000, ttl_ms=10_000)
    await queue.add("limited", due_ms=T0 - 1, ttl_ms=10_000)
    assert [await queue.maintain(page=100) for _ in range(3)] == [99, 100, 51]
    assert {await queue.redis.pttl(f"{queue.keys.job}{n}") for n in range(250)} == {-1}
    assert await queue.redis.pttl(queue.keys.job + "limited") > 0


@pytest.mark.asyncio
async def test_the_maintenance_scan_is_shared_by_all_workers_of_a_queue(queue: Queue) -> None:
    await queue.add("a", due_ms=T0 - DAY_MS + 10_000, ttl_ms=10_000)
    assert await queue.maintain(gap_ms=5000) == 1
    assert await queue.maintain(gap_ms=5000) == -1
    queue.now_ms += 5000
    assert await queue.maintain(gap_ms=5000) == 0


@pytest.mark.asyncio
async def test_the_maintenance_cursor_is_removed_at_the_end_of_a_scan(queue: Queue) -> None:
    await queue.add(*(f"{n}" for n in range(3)))
    await queue.maintain(page=2, gap_ms=50)
    assert 10_000 < await queue.redis.pttl(queue.keys.maintenance_cursor) <= 60_000
    queue.now_ms += 50
    await queue.maintain(page=2, gap_ms=50)
    assert await queue.redis.pttl(queue.keys.maintenance_cursor) <= 50


@pytest.mark.asyncio
async def test_a_lease_without_a_job_is_removed(queue: Queue) -> None:
    await queue.add("a", "b")
    await queue.claim()
    await queue.redis.zrem(queue.keys.pending, "a")
    await queue.maintain()
    assert await queue.redis.hkeys(queue.keys.leases) == [b"b"]
    await queue.redis.zrem(queue.keys.pending, "b")
    queue.now_ms += LEASE_MS
    await queue.claim()
    assert await queue.redis.hkeys(queue.keys.leases) == []
    assert await queue.lease_ends() == {}


@pytest.mark.asyncio
async def test_the_lease_index_counts_leases_by_claim_and_by_renewal(queue: Queue) -> None:
    await queue.add(*"abcdef")
    await queue.claim(4)
    await queue.claim(2, token="w.2")
    end_ms = queue.now_ms + LEASE_MS
    assert await queue.lease_ends() == {f"w.1|{end_ms}|": 4, f"w.2|{end_ms}|": 2}
    queue.now_ms += 1000
    await queue.renew(("a", "w.1"), ("b", "w.1"), ("e", "w.2"), ("f", "w.2"))
    assert await queue.lease_ends() == {
        f"w.1|{end_ms}|": 2,
        f"w.1|{end_ms + 1000}|": 2,
        f"w.2|{end_ms + 1000}|": 2,
    }
    await queue.finish("a")
    await queue.commit(("b", "w.1", "retry", 0), ("c", "w.1", "requeue"))
    assert await queue.return_claims("w.2") == 2
    assert await queue.lease_ends() == {f"w.1|{end_ms}|": 1}
    await queue.finish("d")
    assert await queue.lease_ends() == {}


@pytest.mark.asyncio
async def test_an_ended_lease_is_found_among_thousands_of_jobs_that_are_due_at_its_end(queue: Queue) -> None:
    await queue.add("zz")
    await queue.claim()
    end_ms = queue.now_ms + LEASE_MS
    await queue.add(*(f"j{number:04}" for number in range(3000)), due_ms=end_ms)
    await queue.expire_in_progress("zz")
    queue.now_ms = end_ms
    assert (await queue.claim(1, token="w.2")).ids == ["zz"]


@pytest.mark.asyncio
async def test_an_ended_lease_is_found_although_an_abort_moved_its_job(queue: Queue) -> None:
    await queue.add("a", "b")
    await queue.claim()
    await queue.redis.zadd(queue.keys.pending, {"a": 1})
    queue.now_ms += LEASE_MS
    await queue.claim(1, token="w.2")
    assert await queue.lease_ends() == {f"w.2|{queue.now_ms + LEASE_MS}|": 1}
    assert sorted([await queue.score("a") or 0, await queue.score("b") or 0]) == [T0 - 1, queue.now_ms + LEASE_MS]


@pytest.mark.asyncio
async def test_a_lease_that_was_taken_over_leaves_the_index(queue: Queue) -> None:
    await queue.add(*(f"j{number:04}" for number in range(1200)))
    await queue.claim(700)
    await queue.claim(500, token="w.2")
    queue.now_ms += LEASE_MS
    assert len((await queue.claim(1000, token="w.3")).jobs) == 1000
    await queue.claim(1000, token="w.4")
    end_ms = queue.now_ms + LEASE_MS
    assert await queue.lease_ends() == {f"w.3|{end_ms}|": 1000, f"w.4|{end_ms}|": 200}


@pytest.mark.asyncio
async def test_a_dead_workers_job_that_a_stock_worker_runs_is_not_claimed(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim(token="dead.1")
    queue.now_ms += LEASE_MS
    await queue.redis.set(queue.keys.in_progress + "a", b"1")
    assert (await queue.claim(token="w.2")).ids == []
    assert await queue.redis.hget(queue.keys.leases, "a") is None
    assert await queue.renew(("a", "dead.1")) == [b"a"]
    assert (await queue.finish("a", "dead.1"))[0] == [b"a"]
    assert await queue.redis.get(queue.keys.in_progress + "a") == b"1"
    assert await queue.score("a") is not None


@pytest.mark.asyncio
async def test_stock_clients_read_a_running_jobs_state(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim()
    job = Job("a", queue.redis)
    info = await job.info()
    assert info is not None
    assert info.score == T0 + LEASE_MS
    assert (await job.status()).value == "in_progress"


@pytest.mark.asyncio
async def test_a_claim_that_stops_after_many_small_pages_wakes_the_next_worker(queue: Queue) -> None:
    for group in range(70):
        await queue.add(*[f"{group}-{number}" for number in range(20)], due_ms=T0 - 1000 + group)
    claim = await queue.claim(1000)
    assert len(claim.ids) < 1000
    assert claim.more
    assert await queue.tokens() == 1


@pytest.mark.asyncio
async def test_leases_of_many_claims_that_end_together_are_read_once(real_redis: ArqRedis) -> None:
    queue = Queue(real_redis)
    ids = [f"job{number}" for number in range(200)]
    await queue.add(*ids)
    for job_id in ids:
        assert (await queue.claim(1, token=f"w.{job_id}")).ids == [job_id]
    queue.now_ms += 1000
    await queue.renew(*[(job_id, f"w.{job_id}") for job_id in ids])
    queue.now_ms += LEASE_MS
    await real_redis.config_resetstat()
    assert set((await queue.claim(200, token="heir.1")).ids) == set(ids)
    stats = await real_redis.info("commandstats")
    assert stats["cmdstat_hmget"]["calls"] < 20
    assert "cmdstat_hgetall" not in stats
