"""Behaviour that needs a real Redis: outages, full memory, SCRIPT FLUSH, unsafe settings."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from arq import func
from arq.connections import ArqRedis
from redis.exceptions import OutOfMemoryError
from tests.support.redis_server import RedisServer
from tests.support.running import running, wait_until
from tests.support.scripted_queue import LEASE_MS, Queue, job_keys

from fetchq.errors import RedisEvicts
from fetchq.store import runner as script_runner
from fetchq.store.connection import connect
from fetchq.store.runner import PackedRunner
from fetchq_worker.engine import Worker
from fetchq_worker.engine.queue import commit

pytestmark = pytest.mark.asyncio


class Overriding(Worker):
    """Its runs end by `finish_job`, which waits for the commit."""

    async def finish_job(self, *arguments: Any) -> None:
        await super().finish_job(*arguments)


def worker_on(server: RedisServer, functions: list[Any], kind: type[Worker] = Worker, **options: Any) -> Worker:
    pool = connect(server.url, redis_class=ArqRedis)
    return kind(functions, **{"redis_pool": pool, "handle_signals": False, "poll_delay": 0.05, **options})


@pytest.fixture
def durable_server() -> Iterator[RedisServer]:
    """A Redis that keeps its data over a restart."""
    server = RedisServer("--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.remove()


@pytest_asyncio.fixture
async def durable(durable_server: RedisServer) -> AsyncIterator[ArqRedis]:
    client = connect(durable_server.url, redis_class=ArqRedis)
    yield client
    await client.aclose()


async def test_an_outage_longer_than_the_lease_loses_no_work(durable_server: RedisServer, durable: ArqRedis) -> None:
    runs: Counter[str] = Counter()
    may_end = asyncio.Event()

    async def work(ctx: Any) -> str:
        runs[ctx["job_id"]] += 1
        await may_end.wait()
        return "done"

    jobs = [await durable.enqueue_job("work", _job_id=f"{n}") for n in range(20)]
    workers = [worker_on(durable_server, [func(work, name="work")], lease_s=0.5, renew_s=0.1) for _ in range(2)]
    async with running(*workers), asyncio.timeout(30):
        await wait_until(lambda: len(runs) == 20)
        durable_server.stop()
        may_end.set()
        await wait_until(lambda: sum(worker.jobs_complete for worker in workers) == 20)
        assert sum(worker.committer.backlog for worker in workers) == 20
        await asyncio.sleep(1)
        durable_server.start()
        assert [await job.result(poll_delay=0.01) for job in jobs if job] == ["done"] * 20
    assert set(runs.values()) == {1}
    assert sum(worker.jobs_complete for worker in workers) == 20


async def test_jobs_that_still_run_after_an_outage_stay_with_their_worker(
    durable_server: RedisServer, durable: ArqRedis
) -> None:
    runs: Counter[str] = Counter()
    may_end = asyncio.Event()

    async def work(ctx: Any) -> str:
        runs[ctx["job_id"]] += 1
        await may_end.wait()
        return "done"

    job = await durable.enqueue_job("work")
    assert job is not None
    async with (
        running(worker_on(durable_server, [func(work, name="work")], lease_s=0.5, renew_s=0.1)),
        asyncio.timeout(30),
    ):
        await wait_until(lambda: len(runs) == 1)
        durable_server.stop()
        await asyncio.sleep(0.8)
        durable_server.start()
        await asyncio.sleep(0.8)
        may_end.set()
        assert await job.result(poll_delay=0.01) == "done"
    assert set(runs.values()) == {1}


async def test_a_claim_after_an_outage_waits_for_the_commits_of_other_workers(
    durable_server: RedisServer, durable: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All leases have ended, and one worker's commits arrive before the other's."""
    monkeypatch.setattr(commit, "MAX_BACKOFF_S", 2.0)  # a busy machine must not look like a claim that came in time
    runs: Counter[str] = Counter()
    may_end, may_commit, turned = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(ctx: Any) -> str:
        runs[ctx["job_id"]] += 1
        await may_end.wait()
        return "done"

    jobs = [await durable.enqueue_job("work", _job_id=name) for name in ("a", "b")]
    early, late = [
        worker_on(durable_server, [func(work, name="work")], lease_s=0.3, renew_s=0.1, max_jobs=1) for _ in range(2)
    ]
    async with running(early, late), asyncio.timeout(30):
        await wait_until(lambda: len(runs) == 2)
        late.allow_pick_jobs = False

        class LateRunner(PackedRunner):
            async def run(self, *args: Any, **options: Any) -> Any:
                await may_commit.wait()
                return await super().run(*args, **options)

        late.committer.use(LateRunner(late.pool, timeout_s=15))
        durable_server.stop()
        may_end.set()
        await wait_until(lambda: early.committer.stalled and late.jobs_complete == 1)
        await asyncio.sleep(0.5)
        durable_server.start()
        await wait_until(lambda: early.committer.backlog == 0)
        turn = early._poll_iteration

        async def turn_and_tell() -> None:
            await turn()
            turned.set()

        monkeypatch.setattr(early, "_poll_iteration", turn_and_tell)
        early._wake_event.set()
        await turned.wait()
        may_commit.set()
        assert [await job.result(poll_delay=0.01) for job in jobs if job] == ["done"] * 2
        assert runs == {"a": 1, "b": 1}
        next_job = await durable.enqueue_job("work", _job_id="c")
        assert next_job is not None
        assert await next_job.result(poll_delay=0.01) == "done"


async def test_a_worker_claims_nothing_while_its_commits_wait(durable_server: RedisServer, durable: ArqRedis) -> None:
    release = asyncio.Event()

    async def work(ctx: Any) -> None:
        await release.wait()

    for _ in range(30):
        await durable.enqueue_job("work")
    worker = worker_on(durable_server, [func(work, name="work")], max_jobs=10)
    async with running(worker), asyncio.timeout(30):
        await wait_until(lambda: worker.running_count == 10)
        durable_server.stop()
        release.set()
        await wait_until(lambda: worker.committer.stalled)
        assert worker.committer.backlog == 10
        assert worker._claims._count() == 0
        durable_server.start()
        await wait_until(lambda: worker.jobs_complete == 30)
        await wait_until(lambda: worker.committer.backlog == 0)
    assert await durable.zcard("arq:queue") == 0


@pytest.mark.parametrize("kind", [Worker, Overriding])
async def test_a_worker_that_is_stopped_during_an_outage_ends_in_bounded_time(
    durable_server: RedisServer,
    durable: ArqRedis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Worker],
) -> None:
    monkeypatch.setattr("fetchq_worker.engine.stopping.drain.LAST_COMMIT_S", 0.3)
    started = asyncio.Event()

    async def work(ctx: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    await durable.enqueue_job("work", _job_id="a")
    async with asyncio.timeout(10):
        async with running(worker_on(durable_server, [func(work, name="work")], kind)):
            await started.wait()
            durable_server.stop()
    assert "commit.dropped jobs=1" in caplog.text
    durable_server.start()
    queue = Queue(durable)
    seconds, _ = await durable.time()
    queue.now_ms = (seconds + 60) * 1000
    await queue.expire_in_progress("a")
    assert (await queue.claim()).ids == ["a"]


async def test_scripts_are_sent_again_after_script_flush(real_redis: ArqRedis) -> None:
    queue = Queue(real_redis)
    for _ in range(2):
        await queue.add("a")
        await queue.redis.script_flush()
        assert (await queue.claim()).ids == ["a"]
        await queue.redis.script_flush()
        assert await queue.renew(("a", "w.1")) == []
        await queue.redis.script_flush()
        assert (await queue.finish("a"))[0] == []


async def test_a_full_redis_drains(redis_server: RedisServer, real_redis: ArqRedis) -> None:
    async def work(ctx: Any) -> str:
        return "done"

    for number in range(50):
        await real_redis.enqueue_job("work", _job_id=f"{number}")
    await real_redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfMemoryError):
            await real_redis.set("one more", "thing")
        worker = worker_on(redis_server, [func(work, name="work")], lease_s=0.6, renew_s=0.1)
        async with running(worker), asyncio.timeout(10):
            await wait_until(lambda: worker.jobs_complete == 50 and not worker.committer.backlog)
        assert await real_redis.zcard("arq:queue") == 0
        assert len(await real_redis.keys("arq:result:*")) == 50
    finally:
        await real_redis.config_set("maxmemory", 0)


@pytest.fixture
def no_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts are sent without allow-oom, so that a full Redis refuses what they write."""
    monkeypatch.setattr(script_runner, "takes_flags", lambda redis: False)


@pytest.mark.usefixtures("no_flags")
async def test_a_job_whose_result_redis_refuses_stays_in_the_queue(real_redis: ArqRedis) -> None:
    queue = Queue(real_redis)
    await queue.add("a", "b")
    await queue.claim()
    await real_redis.config_set("maxmemory", 1)
    try:
        lost, refused, refusal = await queue.commit(("a", "w.1", "finish", 1000, "", "x"), ("b", "w.1", "finish", 0))
        assert (lost, refused) == ([], [b"a"])
        assert b"OOM" in refusal
    finally:
        await real_redis.config_set("maxmemory", 0)
    assert await queue.finish("a") == ([], [], b"")
    assert await job_keys(real_redis) == [b"arq:result:a"]


@pytest.mark.usefixtures("no_flags")
async def test_a_worker_repeats_commits_that_redis_refuses(redis_server: RedisServer, real_redis: ArqRedis) -> None:
    may_end = asyncio.Event()

    async def work(ctx: Any) -> str:
        await may_end.wait()
        return "done"

    jobs = [await real_redis.enqueue_job("work") for _ in range(5)]
    worker = worker_on(redis_server, [func(work, name="work")])
    async with running(worker), asyncio.timeout(10):
        await wait_until(lambda: worker.running_count == 5)
        await real_redis.config_set("maxmemory", 1)
        may_end.set()
        try:
            await wait_until(lambda: worker.committer.stalled)
            assert worker.committer.backlog == 5
        finally:
            await real_redis.config_set("maxmemory", 0)
        assert [await job.result(poll_delay=0.01) for job in jobs if job] == ["done"] * 5


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_redis_that_evicts_keys_is_refused(
    redis_server: RedisServer, real_redis: ArqRedis, policy: str
) -> None:
    async def work(ctx: Any) -> None: ...

    await real_redis.config_set("maxmemory-policy", policy)
    try:
        worker = worker_on(redis_server, [func(work, name="work")])
        with pytest.raises(RedisEvicts, match=f"maxmemory-policy {policy}"):
            await worker.main()
        await worker.close()
    finally:
        await real_redis.config_set("maxmemory-policy", "noeviction")


async def test_a_redis_whose_acl_forbids_info_is_accepted(redis_server: RedisServer, real_redis: ArqRedis) -> None:
    async def work(ctx: Any) -> str:
        return "done"

    await real_redis.acl_setuser(
        "shy", enabled=True, nopass=True, keys="*", channels="*", commands=["+@all", "-info", "-config"]
    )
    pool = connect(redis_server.url, redis_class=ArqRedis)
    pool.connection_pool.connection_kwargs.update(username="shy", password="any")
    job = await real_redis.enqueue_job("work")
    assert job is not None
    worker = Worker([func(work, name="work")], redis_pool=pool, handle_signals=False, burst=True)
    await worker.main()
    await worker.close()
    assert await job.result(timeout=1) == "done"


async def test_broken_connections_lose_no_job_and_cost_no_try(
    redis_server: RedisServer, real_redis: ArqRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """After a lost reply the call may have been executed: commits are sent again, claims are returned."""
    runs: Counter[str] = Counter()

    async def work(ctx: Any) -> int:
        runs[ctx["job_id"]] += 1
        await asyncio.sleep(0.005)
        return int(ctx["job_try"])

    jobs = [await real_redis.enqueue_job("work") for _ in range(400)]
    worker = worker_on(redis_server, [func(work, name="work")], max_jobs=10, lease_s=30)
    caplog.set_level(logging.CRITICAL, "fetchq.engine")
    async with running(worker), asyncio.timeout(20):
        await wait_until(lambda: len(runs) > 0)
        for _ in range(15):
            await real_redis.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(0.02)
        results = [await job.result(poll_delay=0.01) for job in jobs if job]
    assert results == [1] * 400
    assert set(runs.values()) == {1}
    assert await real_redis.zcard("arq:queue") == 0
    assert await real_redis.hlen("fetchq:leases:arq:queue") == 0  # type: ignore[misc]


async def test_a_million_enqueues_leave_a_few_wake_tokens(redis_server: RedisServer, real_redis: ArqRedis) -> None:
    async def work(ctx: Any) -> None: ...

    workers = [worker_on(redis_server, [func(work, name="work")], poll_delay=60) for _ in range(3)]
    async with running(*workers):
        await asyncio.sleep(0.2)
        before = (await real_redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
        for _ in range(100):
            await real_redis.rpush("fetchq:wake:arq:queue", *["1"] * 10_000)  # type: ignore[misc]
        await wait_until(lambda: _is_empty(real_redis, "fetchq:wake:arq:queue"))
        await asyncio.sleep(0.2)
        after = (await real_redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before < 1000


async def test_scores_of_running_jobs_stay_exact(real_redis: ArqRedis) -> None:
    queue = Queue(real_redis)
    await queue.add("a", due_ms=queue.now_ms - 123_456_789)
    for turn in range(1, 6):
        queue.now_ms += LEASE_MS
        await queue.expire_in_progress("a")
        claim = await queue.claim(token=f"w.{turn}")
        assert [(job.id, job.tries, job.score) for job in claim.jobs] == [("a", turn, claim.jobs[0].score)]
    await queue.commit(("a", "w.5", "requeue"))
    assert await queue.score("a") == queue.now_ms - 5 * LEASE_MS - 123_456_789


async def _is_empty(redis: ArqRedis, key: str) -> bool:
    return not await redis.exists(key)


async def test_the_lease_hash_is_a_hash_table_and_not_a_listpack(
    durable_server: RedisServer, durable: ArqRedis
) -> None:
    may_end = asyncio.Event()

    async def work(ctx: Any) -> None:
        await may_end.wait()

    await durable.enqueue_job("work")
    worker = worker_on(durable_server, [func(work, name="work")])
    async with running(worker), asyncio.timeout(30):
        await wait_until(lambda: worker.running_count == 1)
        redis: Any = durable
        assert await redis.object("encoding", worker.keys.leases) == b"hashtable"
        may_end.set()


@pytest.mark.parametrize("how", ["closed", "spoken on"])
async def test_a_broken_pooled_connection_is_replaced_before_a_call(
    durable_server: RedisServer, durable: ArqRedis, how: str
) -> None:
    queue = Queue(durable)
    await queue.add("a")
    pool: Any = durable.connection_pool  # redis-py types none of this
    (connection,) = pool._available_connections
    if how == "closed":
        killer = connect(durable_server.url, redis_class=ArqRedis)
        await killer.client_kill_filter(_type="normal", skipme=True)
        await wait_until(connection._reader.at_eof)
        await killer.aclose()
    else:
        await connection.send_command("PING")
        await wait_until(lambda: len(connection._reader._buffer) > 0)
    assert (await queue.claim()).ids == ["a"]
