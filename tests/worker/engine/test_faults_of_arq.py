"""Known faults of stock arq: it fails each of these tests."""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from typing import Any

import pytest
from arq import func
from arq.connections import ArqRedis
from arq.constants import abort_jobs_ss
from arq.cron import cron
from arq.jobs import Job, JobStatus
from arq.worker import JobExecutionFailed, RetryJob
from tests.support.redis_server import RedisServer
from tests.support.running import running, wait_until
from tests.support.scripted_queue import Queue

from fetchq import Producer
from fetchq.contract.wire import deserialize, serialize
from fetchq.store.connection import connect
from fetchq_worker.engine import Worker

from .conftest import MakeWorker

pytestmark = pytest.mark.asyncio

NEVER_S = 60.0
"""A poll interval longer than any test, so that only wake tokens start jobs."""


async def test_an_idle_worker_starts_a_job_at_once_and_not_after_half_a_second(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    started: asyncio.Queue[float] = asyncio.Queue()

    async def work(ctx: Any) -> None:
        started.put_nowait(time.perf_counter())

    worker = make_worker([work], poll_delay=NEVER_S, job_serializer=serialize, job_deserializer=deserialize)
    worker.functions["work"] = func(work, name="work")
    delays = []
    async with running(worker), Producer(redis) as producer:
        for _ in range(20):
            await asyncio.sleep(0.02)  # the worker has nothing to do and waits
            enqueued = time.perf_counter()
            await producer.enqueue_job("work")
            async with asyncio.timeout(5):
                delays.append(await started.get() - enqueued)
    assert sorted(delays)[10] < 0.05


async def test_throughput_is_not_bound_to_the_poll(redis: ArqRedis, make_worker: MakeWorker) -> None:
    done = 0
    all_done = asyncio.Event()

    async def work(ctx: Any) -> None:
        nonlocal done
        done += 1
        if done == 200:
            all_done.set()

    for _ in range(200):
        await redis.enqueue_job("work")
    worker = make_worker([func(work, name="work")], poll_delay=NEVER_S, queue_read_limit=2, max_jobs=2)
    async with running(worker), asyncio.timeout(10):
        await all_done.wait()


async def test_a_dead_workers_job_runs_again_when_its_lease_ends(redis: ArqRedis, make_worker: MakeWorker) -> None:
    """arq: 310 seconds later. (`test_process.py` kills a process; here a worker disappears without a signal.)"""
    tries: list[int] = []
    hangs, runs_again = asyncio.Event(), asyncio.Event()

    async def work(ctx: Any) -> None:
        tries.append(ctx["job_try"])
        if len(tries) == 1:
            hangs.set()
            await asyncio.Event().wait()
        runs_again.set()

    await redis.enqueue_job("work")
    dying = make_worker([func(work, name="work")], lease_s=0.6, renew_s=0.2)
    main = asyncio.create_task(dying.main())
    await hangs.wait()
    await dying._heartbeat.stop()  # a dead worker renews nothing
    main.cancel()
    heir = make_worker([func(work, name="work")], lease_s=0.6, renew_s=0.2)
    async with running(heir), asyncio.timeout(5):
        await runs_again.wait()
    assert tries == [1, 2]


async def test_a_worker_survives_a_restart_of_redis(own_redis_server: RedisServer) -> None:
    ran: asyncio.Queue[str] = asyncio.Queue()

    async def work(ctx: Any) -> None:
        ran.put_nowait(ctx["job_id"])

    async def enqueue(job_id: str) -> None:
        client = connect(own_redis_server.url, redis_class=ArqRedis)
        await client.enqueue_job("work", _job_id=job_id)
        await client.aclose()

    pool = connect(own_redis_server.url, redis_class=ArqRedis)
    worker = Worker([func(work, name="work")], redis_pool=pool, handle_signals=False, poll_delay=0.05)
    async with running(worker), asyncio.timeout(20):
        for outage in range(3):
            await enqueue(f"before-{outage}")
            assert await ran.get() == f"before-{outage}"
            own_redis_server.stop()
            await asyncio.sleep(0.2)
            own_redis_server.start()
            await enqueue(f"after-{outage}")
            while await ran.get() != f"after-{outage}":
                pass  # a job that ran before may run again: this Redis loses all data when it stops


async def test_running_jobs_do_not_block_the_jobs_behind_them_for_other_workers(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    release, last_ran = asyncio.Event(), asyncio.Event()

    async def work(ctx: Any, last: bool) -> None:
        if last:
            last_ran.set()
        else:
            await release.wait()

    for _ in range(150):
        await redis.enqueue_job("work", False)
    busy = make_worker([func(work, name="work")], max_jobs=150)
    free = make_worker([func(work, name="work")], max_jobs=1)
    async with running(busy):
        await wait_until(lambda: len(busy.tasks) == 150)
        await redis.enqueue_job("work", True)
        busy.allow_pick_jobs = False
        async with running(free), asyncio.timeout(5):
            await last_ran.wait()
        release.set()


async def test_a_run_that_lost_its_lease_does_not_finish_the_job_for_its_new_owner(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    started, may_end = asyncio.Event(), asyncio.Event()

    async def work(ctx: Any) -> str:
        started.set()
        await may_end.wait()
        return "late"

    job = await redis.enqueue_job("work")
    assert job is not None
    worker = make_worker([func(work, name="work")])
    async with running(worker):
        await started.wait()
        queue = Queue(redis)
        await queue.take_over(job.job_id)
        may_end.set()
        await wait_until(lambda: not worker.tasks and not worker.committer.backlog)
        assert await job.status() is JobStatus.in_progress
        assert await queue.finish(job.job_id, "other.1") == ([], [], b"")
        assert await redis.get("arq:result:" + job.job_id) == b"done"


async def test_a_job_that_runs_past_a_day_in_the_queue_is_not_lost_as_expired(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    async def work(ctx: Any) -> str:
        if ctx["job_try"] == 1:
            await asyncio.sleep(0.4)
            raise RetryJob
        return "done"

    job = await redis.enqueue_job("work")
    assert job is not None
    await redis.pexpire("arq:job:" + job.job_id, 200)
    worker = make_worker([func(work, name="work")], burst=True, expires_extra_ms=200)
    await worker.main()
    assert await job.result(timeout=1) == "done"


async def test_the_abort_set_is_cleaned(redis: ArqRedis, make_worker: MakeWorker) -> None:
    async def work(ctx: Any) -> None: ...

    now_ms = time.time() * 1000
    await redis.zadd(abort_jobs_ss, {"forgotten": now_ms - 120_000, "fresh": now_ms})
    await redis.enqueue_job("work")
    await make_worker([func(work, name="work")], burst=True, allow_abort_jobs=True).main()
    assert await redis.zrange(abort_jobs_ss, 0, -1) == [b"fresh"]


async def test_the_result_of_an_unknown_function_can_be_stored_without_expiry(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    async def work(ctx: Any) -> None: ...

    job = await redis.enqueue_job("unknown")
    assert job is not None
    await make_worker([func(work, name="work")], burst=True, keep_result_forever=True).main()
    with pytest.raises(JobExecutionFailed, match="function 'unknown' not found"):
        await job.result(timeout=1)
    assert await redis.pttl("arq:result:" + job.job_id) == -1


@pytest.mark.parametrize("hook", ["on_job_end", "after_job_end"])
async def test_a_hook_that_raises_harms_neither_the_worker_nor_the_job(
    redis: ArqRedis, make_worker: MakeWorker, hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(ctx: Any) -> str:
        return "done"

    async def broken(ctx: Any) -> None:
        raise RuntimeError("the hook is broken")

    jobs = [await redis.enqueue_job("work") for _ in range(3)]
    worker = make_worker([func(work, name="work")], burst=True, **{hook: broken})
    await worker.main()
    assert [await job.result(timeout=1) for job in jobs if job] == ["done"] * 3
    assert caplog.text.count("RuntimeError: the hook is broken") == 3


async def test_a_start_hook_that_raises_fails_its_job_and_no_more(redis: ArqRedis, make_worker: MakeWorker) -> None:
    async def work(ctx: Any) -> str:
        return "done"

    async def broken(ctx: Any) -> None:
        if ctx["job_id"] == "bad":
            raise RuntimeError("the hook is broken")

    bad, good = await redis.enqueue_job("work", _job_id="bad"), await redis.enqueue_job("work", _job_id="good")
    assert bad is not None
    assert good is not None
    await make_worker([func(work, name="work")], burst=True, on_job_start=broken).main()
    with pytest.raises(RuntimeError, match="the hook is broken"):
        await bad.result(timeout=1)
    assert await good.result(timeout=1) == "done"


async def test_a_stopped_workers_job_keeps_its_place_and_the_try_is_not_counted(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    started = asyncio.Event()

    async def work(ctx: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    await redis.enqueue_job("work", _job_id="a")
    score = await redis.zscore("arq:queue", "a")
    for _ in range(7):  # more deploys than a job has tries
        started.clear()
        async with running(make_worker([func(work, name="work")], lease_s=60)), asyncio.timeout(5):
            await started.wait()
        assert await redis.zscore("arq:queue", "a") == score
        assert await redis.get("arq:retry:a") is None
        assert await redis.keys("arq:in-progress:*") == []


async def test_a_cron_job_of_a_stopped_worker_runs_again_at_once(redis: ArqRedis, make_worker: MakeWorker) -> None:
    """arq's marker against running twice outlasts a cancelled cron job by a minute, and its one try is used up."""
    started, ran = asyncio.Event(), asyncio.Event()

    async def tick(ctx: Any) -> None:
        if not started.is_set():
            started.set()
            await asyncio.Event().wait()
        ran.set()

    async with running(make_worker([], cron_jobs=[cron(tick, hour=1, run_at_startup=True)])), asyncio.timeout(5):
        await started.wait()
    async with running(make_worker([], cron_jobs=[cron(tick, hour=1)])), asyncio.timeout(5):
        await ran.wait()


async def test_a_missing_payload_is_recorded_as_expired(
    redis: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(ctx: Any) -> str:
        return "done"

    gone, good = await redis.enqueue_job("work"), await redis.enqueue_job("work")
    assert gone is not None
    assert good is not None
    await redis.delete("arq:job:" + gone.job_id)
    with caplog.at_level(logging.INFO, "arq.worker"):
        await make_worker([func(work, name="work")], burst=True).main()
    with pytest.raises(JobExecutionFailed, match="job expired"):
        await gone.result(timeout=1)
    assert await good.result(timeout=1) == "done"
    assert f"job {gone.job_id} expired" in caplog.text


async def test_a_payload_that_cannot_be_decoded_is_recorded_and_removed(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    async def work(ctx: Any) -> str:
        return "done"

    whole: dict[str, Any] = {"t": None, "f": "work", "a": (), "k": {}, "et": int(time.time() * 1000)}
    broken = [{**whole, part: value} for part, value in [("f", ["x"]), ("a", 7), ("k", []), ("t", "x"), ("et", 1e300)]]
    payloads = [pickle.dumps(job) for job in broken] + [b"not a pickle", b""]
    ids = [f"broken-{n}" for n in range(len(payloads))]
    for job_id, payload in zip(ids, payloads, strict=True):
        await redis.set("arq:job:" + job_id, payload)
        await redis.zadd("arq:queue", {job_id: 1})
    good = await redis.enqueue_job("work")
    assert good is not None
    worker = make_worker([func(work, name="work")], burst=True)
    await worker.main()
    assert await good.result(timeout=1) == "done"
    assert worker.jobs_failed == len(ids)
    for job_id in ids:
        info = await Job(job_id, redis).result_info()
        assert info is not None
        assert not info.success
