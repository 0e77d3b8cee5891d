"""The commit, renew and abort scripts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.scripted_queue import LEASE_MS, T0, Queue, job_keys

from fetchq.contract.job_ids import PUSH_PREFIX_LEN


@pytest.mark.asyncio
async def test_a_finished_job_leaves_its_result_and_nothing_else(queue: Queue) -> None:
    await queue.add("a")
    await queue.redis.set(queue.keys.attempts + "a", "[]")
    await queue.redis.zadd(queue.keys.abort, {"a": T0})
    await queue.claim()
    assert await queue.finish("a") == ([], [], b"")
    assert await job_keys(queue.redis) == [b"arq:result:a"]
    assert await queue.redis.get("arq:result:a") == b"done"
    assert 3_590_000 < await queue.redis.pttl("arq:result:a") <= 3_600_000


@pytest.mark.asyncio
async def test_a_result_can_be_stored_without_expiry_or_not_at_all(queue: Queue) -> None:
    await queue.add("ever", "never")
    await queue.claim()
    await queue.commit(("ever", "w.1", "finish", "", "", "x"), ("never", "w.1", "finish", 0, "", ""))
    assert await job_keys(queue.redis) == [b"arq:result:ever"]
    assert await queue.redis.pttl("arq:result:ever") == -1


@pytest.mark.asyncio
async def test_committing_twice_is_harmless(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim()
    await queue.finish("a", result="first")
    assert (await queue.finish("a", result="second"))[0] == [b"a"]
    assert await queue.redis.get("arq:result:a") == b"first"


@pytest.mark.asyncio
async def test_a_run_that_lost_its_token_changes_nothing(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim(token="old.1")
    await queue.expire_in_progress("a")
    queue.now_ms += LEASE_MS
    assert (await queue.claim(token="new.1")).ids == ["a"]
    before = await _everything(queue)
    for action in ("finish", "retry", "requeue"):
        assert (await queue.commit(("a", "old.1", action, 1000, "", "late")))[0] == [b"a"]
    assert await queue.renew(("a", "old.1")) == [b"a"]
    assert await _everything(queue) == before
    assert (await queue.finish("a", "new.1"))[0] == []


@pytest.mark.asyncio
async def test_a_token_is_not_confused_with_one_that_it_is_a_prefix_of(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim(token="w.11")
    await queue.expire_in_progress("a")
    assert (await queue.finish("a", "w.1"))[0] == [b"a"]
    assert (await queue.finish("a", "w.11"))[0] == []


@pytest.mark.asyncio
async def test_a_commit_after_the_leases_end_counts_unless_the_job_was_claimed_again(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim()
    await queue.expire_in_progress("a")
    queue.now_ms += 100 * LEASE_MS
    assert (await queue.finish("a"))[0] == []
    assert await queue.redis.get("arq:result:a") == b"done"


@pytest.mark.asyncio
async def test_a_commit_counts_even_after_the_job_was_requeued_at_its_lease_end(queue: Queue) -> None:
    await queue.add("a", "b")
    await queue.claim(1)
    await queue.expire_in_progress("a")
    queue.now_ms += LEASE_MS
    await queue.claim(0)
    assert await queue.score("a") == T0 - 2
    assert await queue.renew(("a", "w.1")) == []
    assert await queue.score("a") == queue.now_ms + LEASE_MS
    assert (await queue.finish("a"))[0] == []


@pytest.mark.asyncio
async def test_renewal_moves_the_leases_end_and_keeps_the_original_score(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim()
    for _ in range(10):
        queue.now_ms += LEASE_MS - 1
        assert await queue.renew(("a", "w.1")) == []
    assert (await queue.claim(token="w.2")).ids == []
    assert await queue.score("a") == queue.now_ms + LEASE_MS
    assert await queue.lease_ends() == {f"w.1|{queue.now_ms + LEASE_MS}|": 1}
    await queue.commit(("a", "w.1", "requeue"))
    assert await queue.score("a") == T0 - 1
    assert await queue.lease_ends() == {}


@pytest.mark.asyncio
@pytest.mark.parametrize("renewed", [False, True])
async def test_a_first_try_that_outlived_its_lease_leaves_no_retry_key(queue: Queue, renewed: bool) -> None:
    """A claim that processes an ended lease writes the retry key; the run does not know this."""
    await queue.add("a", "b")
    await queue.claim()
    queue.now_ms += LEASE_MS
    await queue.redis.set(queue.keys.paused, "1")
    assert (await queue.claim(token="w.2")).ids == []
    assert await queue.tries("a") == 1
    if renewed:
        assert await queue.renew(("a", "w.1"), ("b", "w.1")) == []
    assert await queue.commit(("a", "w.1", "clean", 0), ("b", "w.1", "retry")) == ([], [], b"")
    assert await queue.redis.keys(queue.keys.retry + "*") == [(queue.keys.retry + "b").encode()]
    assert await queue.tries("b") == 1


@pytest.mark.asyncio
async def test_a_renewal_does_not_create_a_missing_job(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim()
    await queue.redis.zrem(queue.keys.pending, "a")
    assert await queue.renew(("a", "w.1"), ("unknown", "w.1")) == [b"a", b"unknown"]
    assert await queue.score("a") is None
    assert await queue.redis.hlen(queue.keys.leases) == 0


@pytest.mark.asyncio
async def test_a_retry_counts_the_try_and_a_requeue_does_not(queue: Queue) -> None:
    await queue.add("retried", "released")
    await queue.claim()
    await queue.commit(("retried", "w.1", "retry"), ("released", "w.1", "requeue"))
    assert [(job.id, job.tries) for job in (await queue.claim(token="w.2")).jobs] == [("retried", 2), ("released", 1)]
    await queue.commit(("retried", "w.2", "requeue"), ("released", "w.2", "retry"))
    assert [(job.id, job.tries) for job in (await queue.claim(token="w.3")).jobs] == [("retried", 2), ("released", 2)]


@pytest.mark.asyncio
async def test_extra_keys_are_remembered_however_often_the_job_is_requeued(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim()
    await queue.commit(("a", "w.1", "requeue_with_keys"))
    ways_back = [
        queue.commit(("a", "w.2", "requeue")),
        queue.return_claims("w.3"),
        _parked(queue, "a", "w.4"),
        queue.commit(("a", "w.5", "requeue_with_keys")),
    ]
    for number, goes_back in enumerate(ways_back, 2):
        assert await queue.redis.get(queue.keys.retry + "a") == b"0"
        assert 80_000 < await queue.redis.ttl(queue.keys.retry + "a") <= 88_400
        assert [job.tries for job in (await queue.claim(token=f"w.{number}")).jobs] == [1]
        assert queue.has_extra_keys("a", f"w.{number}")
        await goes_back
    assert await queue.redis.incr(queue.keys.retry + "a") == 1  # as a stock worker counts


async def _parked(queue: Queue, job_id: str, token: str) -> None:
    """Its limit key has no free slot for the requeued job, and its cooldown has ended."""
    await queue.start_cooldown("example.org", 1000)
    assert await queue.admit((job_id, token, "example.org")) == [job_id]
    queue.now_ms += 1000


@pytest.mark.asyncio
async def test_a_requeued_job_keeps_its_place_unless_it_has_a_delay(queue: Queue) -> None:
    await queue.add("at once", "later")
    await queue.claim()
    await queue.commit(("at once", "w.1", "retry"), ("later", "w.1", "requeue", 5000))
    assert await queue.score("at once") == T0 - 2
    assert await queue.score("later") == T0 + 5000
    assert await queue.redis.exists(queue.keys.in_progress + "at once", queue.keys.in_progress + "later") == 0
    assert await queue.redis.hlen(queue.keys.leases) == 0


@pytest.mark.asyncio
async def test_a_requeued_job_that_is_due_wakes_a_worker(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim()
    await queue.commit(("a", "w.1", "requeue", 5000))
    assert await queue.redis.llen(queue.keys.wake) == 0
    queue.now_ms += 5000
    await queue.claim(token="w.2")
    await queue.commit(("a", "w.2", "requeue"))
    assert await queue.redis.llen(queue.keys.wake) == 1


@pytest.mark.asyncio
async def test_finished_ids_are_pushed_in_one_message_for_each_prefix(queue: Queue) -> None:
    ids = ["aaaaaaaa1", "aaaaaaaa2", "bbbbbbbb1", "short"]
    await queue.add(*ids)
    await queue.claim()
    async with queue.redis.pubsub() as pubsub:
        await pubsub.psubscribe(queue.keys.done + "*")
        received = asyncio.create_task(_messages(pubsub, 3))
        await asyncio.sleep(0)
        await queue.commit(*[(job_id, "w.1", "finish", 1000, "", "x") for job_id in ids])
        assert sorted(await received) == [
            (f"{queue.keys.done}{'a' * PUSH_PREFIX_LEN}", "aaaaaaaa1\naaaaaaaa2"),
            (f"{queue.keys.done}{'b' * PUSH_PREFIX_LEN}", "bbbbbbbb1"),
            (f"{queue.keys.done}short", "short"),
        ]


@pytest.mark.asyncio
async def test_each_job_of_a_batch_is_committed_by_itself(queue: Queue) -> None:
    await queue.add(*"abcd")
    await queue.claim(3)
    lost, refused, _ = await queue.commit(
        ("a", "w.1", "finish", 1000, "", "x"),
        ("b", "not mine", "finish", 1000, "", "x"),
        ("c", "w.1", "retry", 100),
        ("d", "w.1", "finish", 1000, "", "x"),
        ("unknown", "w.1", "finish", 1000, "", "x"),
    )
    assert (lost, refused) == ([b"b", b"d", b"unknown"], [])
    assert sorted(await queue.redis.zrange(queue.keys.pending, 0, -1)) == [b"b", b"c", b"d"]
    assert await queue.redis.keys("arq:result:*") == [b"arq:result:a"]


@pytest.mark.asyncio
async def test_an_abort_is_found_by_the_worker_that_runs_the_job_and_by_no_other(queue: Queue) -> None:
    await queue.add("mine", "theirs")
    await queue.claim(1, token="me.1")
    await queue.claim(1, token="you.1")
    await queue.redis.zadd(queue.keys.abort, {"mine": T0, "theirs": T0})
    assert await queue.find_aborts(mine="me.") == (0, False, [b"mine"])


@pytest.mark.asyncio
async def test_an_abort_makes_a_waiting_job_due(queue: Queue) -> None:
    await queue.add(*"abc")
    await queue.add("deferred", due_ms=T0 + 1_000_000)
    await queue.redis.zadd(queue.keys.abort, {"deferred": T0})
    assert (await queue.find_aborts()).any_brought_forward
    assert (await queue.claim(1)).jobs[0][::4] == ("deferred", True)


@pytest.mark.asyncio
async def test_an_abort_of_a_missing_job_is_removed_after_a_minute(queue: Queue) -> None:
    await queue.redis.set(queue.keys.job + "of another queue", b"x")
    asked = {"of another queue": T0 - 100_000, "gone": T0 - 61_000, "fresh": T0 - 59_000}
    await queue.redis.zadd(queue.keys.abort, asked)
    await queue.find_aborts()
    assert sorted(await queue.redis.zrange(queue.keys.abort, 0, -1)) == [b"fresh", b"of another queue"]


@pytest.mark.asyncio
async def test_aborts_are_read_in_pages(queue: Queue) -> None:
    await queue.add("mine")
    await queue.claim()
    await queue.redis.zadd(queue.keys.abort, {f"other-{n}": T0 - n for n in range(25)} | {"mine": T0 + 1})
    passed, rounds = 0, 0
    running: list[bytes] = []
    while not running and rounds < 10:
        passed, _, running = await queue.find_aborts(offset=passed, count=10)
        rounds += 1
    assert (running, rounds) == ([b"mine"], 3)


async def _messages(pubsub: Any, count: int) -> list[tuple[str, str]]:
    received: list[tuple[str, str]] = []
    async for message in pubsub.listen():
        if message["type"] == "pmessage":
            received.append((message["channel"].decode(), message["data"].decode()))
            if len(received) == count:
                break
    return received


async def _everything(queue: Queue) -> list[Any]:
    redis, keys = queue.redis, queue.keys
    return [
        sorted(await redis.keys("*")),
        await redis.zrange(keys.pending, 0, -1, withscores=True),
        await redis.hgetall(keys.leases),
        await redis.zrange(keys.lease_ends, 0, -1, withscores=True),
        await redis.get(keys.in_progress + "a"),
        await redis.get(keys.retry + "a"),
    ]
