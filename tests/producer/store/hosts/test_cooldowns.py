"""Cooldowns, failed connections and crawl delays of a limit key."""

from __future__ import annotations

import pytest
from tests.producer.store.hosts.one_host import KEY, claim_and_admit, enqueue, ids_of, set_limit
from tests.support.scripted_queue import Queue

from fetchq_worker.engine.queue.commit import Committer
from fetchq_worker.engine.queue.lease import Lease
from fetchq_worker.engine.queue.outcome import Action, Outcome
from fetchq_worker.telemetry.telemetry import Telemetry


@pytest.mark.asyncio
async def test_failed_connections_start_a_cooldown_and_then_one_job_tries(queue: Queue) -> None:
    await enqueue(queue, *ids_of(30))
    started = await claim_and_admit(queue)
    for job_id in started[:4]:
        reply = await queue.commit_whole((job_id, "w.1", "finish", 1000, "", "x", "-CONNECT_ERROR"))
        assert reply.opened == ()
    reply = await queue.commit_whole((started[4], "w.1", "finish", 1000, "", "x", "-CONNECT_ERROR"))
    assert reply.opened[:2] == [KEY.encode(), 5]
    assert 8_000 <= reply.opened[2] <= 12_000
    assert await claim_and_admit(queue, token="w.2") == []
    reply = await queue.commit_whole((started[5], "w.1", "finish", 1000, "", "x", "-CONNECT_ERROR"))
    assert reply.opened == (), "the circuit is open already"
    for job_id in started[6:]:
        await queue.commit((job_id, "w.1", "finish", 1000, "", "x", "=TIMEOUT"))
    queue.now_ms += 13_000
    probe = await claim_and_admit(queue, token="w.3")
    assert len(probe) == 1
    await queue.commit((probe[0], "w.3", "finish", 1000, "", "x", "+OK"))
    assert len(await claim_and_admit(queue, token="w.4")) == 8


@pytest.mark.asyncio
@pytest.mark.parametrize("action", [Action.FINISH, Action.RETRY], ids=["that end", "that go back"])
async def test_failures_and_successes_in_turn_start_no_cooldown(queue: Queue, action: Action) -> None:
    seconds, _ = await queue.redis.time()
    queue.now_ms = seconds * 1000  # the committer uses Redis's own clock
    await set_limit(queue, "c=16")
    await enqueue(queue, *ids_of(16))
    claim = await queue.claim(16)
    assert await queue.admit(*[(job_id, "w.1", KEY) for job_id in claim.ids]) == []
    committer = Committer(
        queue.keys,
        dead_letter_ttl_ms=1,
        dead_letter_max=0,
        delay_s=60,
        on_commit=lambda next_due_s: None,
        telemetry=Telemetry(),
    )
    committer.use(queue.runner)
    for number, job_id in enumerate(claim.ids):
        lease = Lease(job_id.encode(), "w.1", b"", 0, 1)
        failed = Outcome(lease, action, host_outcome="-CONNECT_ERROR", defer_ms=None)
        committer.add(failed if number % 2 else Outcome(lease, Action.FINISH, host_outcome="+OK"))
    await committer.flush()
    await committer.aclose()
    assert await queue.redis.zcard(queue.keys.cooldowns) == 0


@pytest.mark.asyncio
async def test_a_key_in_cooldown_starts_nothing_and_afterwards_one_job_at_a_time(queue: Queue) -> None:
    await enqueue(queue, *ids_of(20))
    started = await claim_and_admit(queue)
    assert await queue.start_cooldown(KEY, 5000) == 5000
    await queue.finish(started[0])
    assert await claim_and_admit(queue, token="w.2") == []
    queue.now_ms += 4999
    assert (await queue.claim(token="w.3")).wait_ms == 1
    for job_id in started[1:]:
        await queue.commit((job_id, "w.1", "finish", 1000, "", "x", "=HTTP_ERROR 429"))
    queue.now_ms += 1
    [probe] = await claim_and_admit(queue, token="w.4")
    await queue.commit((probe, "w.4", "finish", 1000, "", "x", "+OK"))
    assert len(await claim_and_admit(queue, token="w.5")) == 8
    assert not await queue.redis.exists(queue.keys.cooldowns)


@pytest.mark.asyncio
async def test_a_job_that_is_claimed_while_a_cooldown_begins_is_parked(queue: Queue) -> None:
    await enqueue(queue, "job")
    assert (await queue.claim()).ids == ["job"]
    await queue.start_cooldown(KEY, 5000)
    assert await queue.admit(("job", "w.1", KEY)) == ["job"]
    assert await queue.tries("job") == 0


@pytest.mark.asyncio
async def test_a_cooldown_without_a_success_before_it_is_twice_as_long_up_to_a_maximum(queue: Queue) -> None:
    lasted = []
    for _ in range(6):
        lasted.append(await queue.start_cooldown(KEY, first_ms=1000, most_ms=10_000))
        assert await queue.start_cooldown(KEY, first_ms=1000, most_ms=10_000) <= lasted[-1] * 1.5, (
            "not another throttle"
        )
        queue.now_ms += 20_000
    assert all(0.8 * 1000 * 2**n <= ms <= 1.2 * 1000 * 2**n for n, ms in enumerate(lasted[:3]))
    assert lasted[4:] == [10_000, 10_000]


@pytest.mark.asyncio
async def test_a_crawl_delay_is_reported_by_a_note_and_is_bounded(queue: Queue) -> None:
    await enqueue(queue, *ids_of(4))
    started = await claim_and_admit(queue, 2)
    await queue.commit((started[0], "w.1", "finish", 1000, "", "x", "+HTTP_ERROR 404 d=2000"))
    assert (await queue.redis.hget(queue.keys.hosts, KEY)).decode().endswith(" 2000 0 HTTP_ERROR 404")
    await queue.commit((started[1], "w.1", "finish", 1000, "", "x", "+OK"))
    assert await claim_and_admit(queue, token="w.2") == ids_of(4)[2:3]
    await queue.finish(ids_of(4)[2], "w.2")
    queue.now_ms += 1999
    assert await claim_and_admit(queue, token="w.3") == []
    queue.now_ms += 1
    assert await claim_and_admit(queue, token="w.4") == ids_of(4)[3:]
    await queue.commit((ids_of(4)[3], "w.4", "finish", 1000, "", "x", f"+OK d={10**12}"))
    assert b" 3600000 " in await queue.redis.hget(queue.keys.hosts, KEY)


@pytest.mark.asyncio
async def test_the_jobs_of_an_unreachable_host_end_at_a_slow_pace(queue: Queue) -> None:
    """After enough failures several jobs start at a time, not one by one."""
    count = 200
    await enqueue(queue, *ids_of(count))
    minutes, ended, turn = 0, 0, 0
    while ended < count:
        turn += 1
        started = await claim_and_admit(queue, 20, token=f"w.{turn}")
        for job_id in started:
            await queue.commit((job_id, f"w.{turn}", "finish", 1000, "", "x", "-CONNECT_ERROR"))
        ended += len(started)
        queue.now_ms += 1000
        minutes = turn // 60
        assert minutes < 20, ended
    assert minutes >= 4, "and not all at once"
