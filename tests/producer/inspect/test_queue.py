"""What operators read of a queue: in which state each job is, how many could run, and the workers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import pytest_asyncio
from redis.exceptions import ResponseError
from tests.support.redis_server import RedisServer
from tests.support.scripted_queue import LEASE_MS, T0, Queue

from fetchq.inspect.queue import QueueState, read_queue_state
from fetchq.inspect.workers import WorkerRecord, decode_record
from fetchq.store.connection import connect
from fetchq.store.keys import Keys

KEYS = Keys()
RECORD = WorkerRecord(id="w", host="h", pid=1, version="0", queue="arq:queue", running=2, concurrency=4)
HOST = "a.example"


@pytest_asyncio.fixture
async def queue(redis_server: RedisServer) -> Any:
    async with connect(redis_server.url) as redis:
        yield Queue(redis)


async def _state(queue: Queue) -> QueueState:
    return await read_queue_state(queue.redis, KEYS, now_ms=queue.now_ms)


def _jobs(state: QueueState) -> dict[str, int]:
    counts = {name: getattr(state, name) for name in ("due", "waiting", "deferred", "running")}
    return {name: count for name, count in counts.items() if count}


@pytest.mark.asyncio
async def test_an_empty_queue_has_no_jobs_and_no_demand(queue: Queue) -> None:
    state = await _state(queue)

    assert _jobs(state) == {}
    assert (state.demand, state.oldest_due_s, state.paused, state.slots, state.workers) == (0, None, False, 0, ())
    assert (state.hosts_waiting, state.hosts_cooling, state.hosts_paused) == (0, 0, 0)
    assert (state.queue, state.now_ms) == ("arq:queue", T0)


@pytest.mark.asyncio
@pytest.mark.parametrize("lane", ["", "h", "l"])
async def test_each_job_of_each_lane_is_counted_in_one_state(queue: Queue, lane: str) -> None:
    await queue.enqueue(("due", "", "b.example", lane), ("running", "", HOST, lane), ("later", "+60000", HOST, lane))
    await queue.redis.zadd(KEYS.dead, {"a": 1})
    queue.now_ms += 1000
    await queue.claim(1, only=["running"])

    state = await _state(queue)

    assert _jobs(state) == {"due": 1, "deferred": 1, "running": 1}
    assert (state.demand, state.oldest_due_s, state.dead_letters) == (2, 1.0, 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("lane", ["", "h", "l"])
async def test_a_deferred_job_whose_time_has_come_is_due_although_no_worker_has_claimed_since(
    queue: Queue, lane: str
) -> None:
    await queue.enqueue(("later", "+5000", HOST, lane))
    queue.now_ms += 5000 + 2000

    state = await _state(queue)

    assert _jobs(state) == {"due": 1}
    assert (state.demand, state.oldest_due_s) == (1, 2.0)


@pytest.mark.asyncio
async def test_six_thousand_jobs_of_a_host_that_permits_eight_have_a_demand_of_eight(queue: Queue) -> None:
    for start in range(0, 6000, 1000):
        await queue.enqueue(*((f"{number}", "", HOST, "") for number in range(start, start + 1000)))

    state = await _state(queue)
    assert _jobs(state) == {"due": 8, "waiting": 5992}
    assert (state.demand, state.hosts_waiting) == (8, 1)

    claim = await queue.claim(8)
    await queue.admit(*((job_id, "w.1", HOST) for job_id in claim.ids))
    state = await _state(queue)
    assert _jobs(state) == {"running": 8, "waiting": 5992}
    assert (state.demand, state.oldest_due_s) == (8, None)


@pytest.mark.asyncio
async def test_the_jobs_of_a_lost_worker_are_due_once_their_leases_have_ended(queue: Queue) -> None:
    await queue.enqueue(*((f"{number}", "", HOST, "") for number in range(20)))
    claim = await queue.claim(8)
    await queue.admit(*((job_id, "w.1", HOST) for job_id in claim.ids))
    queue.now_ms += LEASE_MS - 1
    assert _jobs(await _state(queue)) == {"running": 8, "waiting": 12}

    queue.now_ms += 1
    state = await _state(queue)
    assert _jobs(state) == {"due": 8, "waiting": 12}
    assert (state.demand, state.oldest_due_s) == (8, 0.0)

    await queue.redis.set(KEYS.paused, 1)  # a claim gives them their scores back, but claims none
    await queue.claim()
    await queue.redis.delete(KEYS.paused)
    state = await _state(queue)
    assert _jobs(state) == {"due": 8, "waiting": 12}
    assert (state.demand, state.oldest_due_s) == (8, LEASE_MS / 1000)

    assert await queue.renew(*((job_id, "w.1") for job_id in claim.ids)) == []  # it was not lost, only late
    assert _jobs(await _state(queue)) == {"running": 8, "waiting": 12}


@pytest.mark.asyncio
async def test_a_host_whose_turn_has_come_is_demand_although_no_worker_has_claimed_since(queue: Queue) -> None:
    await queue.set_limits(HOST, "set", "r=10000000")
    await queue.enqueue(*((f"{number}", "", HOST, "") for number in range(3)))
    [job_id] = (await queue.claim()).ids
    await queue.admit((job_id, "w.1", HOST))
    await queue.finish(job_id)
    state = await _state(queue)
    assert (_jobs(state), state.demand, state.oldest_due_s) == ({"waiting": 2}, 0, None)

    queue.now_ms += 13_300  # 3 % slower than the rate (`rate.lua`)
    state = await _state(queue)
    assert (_jobs(state), state.demand, state.oldest_due_s) == ({"waiting": 2}, 1, 3.0)


@pytest.mark.asyncio
async def test_a_cooldown_is_no_demand_until_it_is_over(queue: Queue) -> None:
    await queue.set_limits(HOST, "set", "c=1")
    await queue.enqueue(("a", "", HOST, ""), ("b", "", HOST, ""))
    await queue.claim()
    await queue.admit(("a", "w.1", HOST))
    await queue.start_cooldown(HOST, 30_000)
    await queue.finish("a")
    state = await _state(queue)
    assert (_jobs(state), state.demand) == ({"waiting": 1}, 0)
    assert (state.hosts_cooling, state.hosts_waiting) == (1, 1)

    queue.now_ms += 30_000
    state = await _state(queue)
    assert (_jobs(state), state.demand, state.hosts_cooling) == ({"waiting": 1}, 1, 0)


@pytest.mark.asyncio
async def test_waiting_jobs_of_a_paused_host_are_no_demand(queue: Queue) -> None:
    await queue.set_limits(HOST, "set", "p=1")
    await queue.set_limits("*.example.org", "set", "p=1 c=2")
    await queue.enqueue(("a", "", HOST, ""), ("b", "", "x.example.org", ""), ("c", "", "c.example", ""))
    queue.now_ms += 1000

    state = await _state(queue)

    assert (_jobs(state), state.demand, state.oldest_due_s) == ({"due": 1, "waiting": 2}, 1, 1.0)
    assert (state.hosts_paused, state.hosts_waiting) == (2, 2)


@pytest.mark.asyncio
async def test_a_paused_queue_has_no_demand_beyond_what_runs_and_its_oldest_job_grows_older(queue: Queue) -> None:
    await queue.enqueue(*((f"{number}", "", f"{number}.example", "") for number in range(3)))
    await queue.claim(1)
    await queue.redis.set(KEYS.paused, 1)
    for age_s in (5, 10):
        queue.now_ms = T0 + 1000 * age_s
        await queue.claim()
        state = await _state(queue)
        assert (_jobs(state), state.demand, state.oldest_due_s) == ({"due": 2, "running": 1}, 1, age_s)
        assert state.paused


@pytest.mark.asyncio
async def test_a_job_that_a_stock_worker_runs_counts_as_due(queue: Queue) -> None:
    await queue.add("stock")
    await queue.redis.set(f"{KEYS.in_progress}stock", b"1")
    await queue.claim()

    state = await _state(queue)

    assert (_jobs(state), state.demand) == ({"due": 1}, 1)


@pytest.mark.asyncio
async def test_the_jobs_that_a_stock_client_aborts_are_counted_once_and_have_no_age(queue: Queue) -> None:
    await queue.enqueue(("running", "", "", ""), ("later", "+60000", "", ""))
    await queue.claim(1)
    await queue.redis.zadd(KEYS.pending, {"running": 1, "later": 1})  # as arq's `Job.abort`

    state = await _state(queue)

    assert (_jobs(state), state.oldest_due_s) == ({"due": 1, "running": 1}, None)


@pytest.mark.asyncio
@pytest.mark.parametrize("score", ["-inf", "-1e300", str(-(2.0**52)), "-5", "0", "inf", "1e300"])
async def test_a_score_that_fetchq_never_writes_has_no_age(queue: Queue, score: str) -> None:
    await queue.add("odd")
    await queue.redis.zadd(KEYS.pending, {"odd": score})

    state = await _state(queue)

    assert _jobs(state) == ({"waiting": 1} if float(score) > 0 else {"due": 1})
    assert state.oldest_due_s is None


@pytest.mark.asyncio
async def test_beyond_five_hundred_due_hosts_the_demand_is_estimated(queue: Queue) -> None:
    hosts = [f"{number}.example" for number in range(1500)]
    await queue.set_limits("*", "set", "p=1")
    for start in range(0, 1500, 500):
        await queue.enqueue(*((host, "", host, "") for host in hosts[start : start + 500]))
    await queue.redis.hset(KEYS.limits, "*", "c=1")
    await queue.redis.zadd(KEYS.due_hosts, dict.fromkeys(hosts, T0 - 500))

    state = await _state(queue)

    assert (_jobs(state), state.demand, state.oldest_due_s) == ({"waiting": 1500}, 1500, 0.5)


@pytest.mark.asyncio
async def test_paused_names_are_estimated_where_more_limits_are_set_than_are_read(queue: Queue) -> None:
    await queue.redis.hset(
        KEYS.limits, mapping={f"{number}.example": f"c=1 p={number % 2}" for number in range(30_000)}
    )

    assert 13_000 < (await _state(queue)).hosts_paused < 17_000


@pytest.mark.asyncio
@pytest.mark.parametrize("option", ["min-replicas-to-write", "maxmemory"])
async def test_the_state_is_read_while_redis_refuses_writes(own_redis_server: RedisServer, option: str) -> None:
    async with connect(own_redis_server.url) as redis:
        queue = Queue(redis)
        await queue.enqueue(("due", "", HOST, ""))
        await queue.redis.config_set(option, 1)
        with pytest.raises(ResponseError, match=r"enough good replicas|maxmemory"):
            await queue.redis.set("x", 1)
        await queue.redis.script_flush()

        assert _jobs(await _state(queue)) == {"due": 1}


@pytest.mark.asyncio
async def test_the_state_is_read_from_a_replica(own_redis_server: RedisServer) -> None:
    async with connect(own_redis_server.url) as redis:
        queue = Queue(redis)
        await queue.enqueue(("due", "", HOST, ""))
        await queue.redis.replicaof("127.0.0.1", 1)
        try:
            assert _jobs(await _state(queue)) == {"due": 1}
        finally:
            await queue.redis.replicaof("NO", "ONE")


@pytest.mark.asyncio
async def test_a_worker_is_listed_until_its_record_expires_and_foreign_bytes_are_skipped(redis: Any) -> None:
    await redis.zadd(KEYS.workers, {"w": 3000, "expired": 2000, "foreign": 1000})
    await redis.set(f"{KEYS.worker}w", msgspec.json.encode(RECORD))
    await redis.set(f"{KEYS.worker}foreign", b"{}")

    state = await read_queue_state(redis, KEYS)

    assert state.workers == (msgspec.structs.replace(RECORD, heartbeat_ms=3000),)
    assert state.slots == 4


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b'{"id": 1}', b"[" * 100_000])
def test_bytes_that_are_not_a_record_are_none(data: bytes) -> None:
    assert decode_record(data) is None


def test_a_record_of_a_later_version_is_read_without_its_new_fields() -> None:
    assert decode_record(msgspec.json.encode({**msgspec.structs.asdict(RECORD), "mood": "good"})) == RECORD


@pytest.mark.asyncio
async def test_the_memory_of_redis_and_its_limit_are_read_if_redis_tells_them(own_redis_server: RedisServer) -> None:
    async with connect(own_redis_server.url) as redis:
        state = await read_queue_state(redis, KEYS)
        assert state.redis_memory_bytes is not None
        assert state.redis_memory_bytes > 100_000
        assert state.redis_max_memory_bytes == 0

        await redis.config_set("maxmemory", "1mb")  # less than is used: Redis refuses writes
        state = await read_queue_state(redis, KEYS)
        assert state.redis_max_memory_bytes == 1 << 20

        await redis.replicaof("127.0.0.1", "1")  # a replica, which refuses all of them
        state = await read_queue_state(redis, KEYS)
        assert state.redis_max_memory_bytes == 1 << 20
        await redis.replicaof("NO", "ONE")

        await redis.execute_command("ACL", "SETUSER", "default", "-info")
        state = await read_queue_state(redis, KEYS)
        assert (state.redis_memory_bytes, state.redis_max_memory_bytes) == (None, None)
