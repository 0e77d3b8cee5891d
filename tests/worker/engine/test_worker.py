"""The worker's public behaviour."""

from __future__ import annotations

import asyncio
import inspect
import signal
import time
from collections import Counter
from typing import Any

import arq.worker
import msgspec
import pytest
from arq import func
from arq.connections import ArqRedis
from arq.jobs import Job, JobStatus, ResultNotFound
from arq.worker import FailedJobs
from tests.support.running import running, wait_until
from tests.support.scripted_queue import Queue

from fetchq import InvalidRequest, Producer
from fetchq.contract.wire import deserialize, serialize
from fetchq.inspect.queue import read_queue_state
from fetchq.store.keys import Keys
from fetchq.store.records import LeaseRecord
from fetchq_worker.engine import Worker, create_worker

from .conftest import MakeWorker

pytestmark = pytest.mark.asyncio


async def test_two_thousand_jobs_run_exactly_once_on_three_workers(redis: ArqRedis, make_worker: MakeWorker) -> None:
    runs: Counter[int] = Counter()

    async def work(ctx: Any, number: int) -> None:
        runs[number] += 1

    async with Producer(redis) as producer:
        await asyncio.gather(*(producer.enqueue_job("work", number) for number in range(2000)))
    wire = {"job_serializer": serialize, "job_deserializer": deserialize}
    workers = [make_worker([func(work, name="work")], max_jobs=50, **wire) for _ in range(3)]
    async with running(*workers):
        await wait_until(lambda: len(runs) == 2000, timeout_s=30)
        await wait_until(lambda: not any(worker.committer.backlog for worker in workers))
    assert set(runs.values()) == {1}
    assert sum(worker.jobs_complete for worker in workers) == 2000
    assert await redis.keys("arq:job:*") == []
    assert len(await redis.keys("arq:result:*")) == 2000


async def test_a_worker_whose_loop_was_blocked_past_its_lease_keeps_a_job_that_no_other_claimed(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    tries: list[int] = []

    async def work(ctx: Any) -> str:
        tries.append(ctx["job_try"])
        time.sleep(0.5)  # noqa: ASYNC251 - the fault under test
        await asyncio.sleep(0.2)
        return "done"

    job = await redis.enqueue_job("work")
    assert job is not None
    worker = make_worker([func(work, name="work")], lease_s=0.3, renew_s=0.1)
    async with running(worker):
        assert await job.result(timeout=5, poll_delay=0.01) == "done"
    assert tries == [1]


async def test_a_workers_old_run_is_cancelled_when_it_claims_the_job_again(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    ends: list[str] = []
    runs = asyncio.Semaphore(0)
    may_end = asyncio.Event()

    async def work(ctx: Any) -> str:
        runs.release()
        try:
            await may_end.wait()
        except asyncio.CancelledError:
            ends.append(f"try {ctx['job_try']} cancelled")
            raise
        ends.append(f"try {ctx['job_try']} finished")
        return f"try {ctx['job_try']}"

    job = await redis.enqueue_job("work", _job_id="a")
    assert job is not None
    worker = make_worker([func(work, name="work")])
    async with running(worker), asyncio.timeout(10):
        await runs.acquire()
        await redis.zadd("arq:queue", {"a": 1})  # as if the lease had ended while the loop was blocked
        await redis.zadd("fetchq:lease-ends:arq:queue", {"a": 1})
        token = next(iter(worker.leases)).token
        record = LeaseRecord(token.encode(), end_ms=1, score=1, payload_expires_ms=None)
        await redis.hset("fetchq:leases:arq:queue", "a", record.format())  # type: ignore[misc,arg-type]  # bytes do as well
        await runs.acquire()
        may_end.set()
        assert await job.result(poll_delay=0.01) == "try 2"
    assert ends == ["try 1 cancelled", "try 2 finished"]
    assert worker.running_count == 0


async def test_a_renewal_that_finds_another_token_cancels_the_run(redis: ArqRedis, make_worker: MakeWorker) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def work(ctx: Any) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    job = await redis.enqueue_job("work")
    assert job is not None
    worker = make_worker([func(work, name="work")], renew_s=0.05)
    async with running(worker), asyncio.timeout(5):
        await started.wait()
        queue = Queue(redis)
        await queue.take_over(job.job_id)
        await cancelled.wait()
        await wait_until(lambda: worker.running_count == 0)
    assert (worker.jobs_complete, worker.jobs_failed, worker.jobs_retried) == (0, 0, 0)
    assert await job.status() is JobStatus.in_progress
    assert await queue.finish(job.job_id, "other.1") == ([], [], b"")


async def test_at_most_max_jobs_run_at_a_time(redis: ArqRedis, make_worker: MakeWorker) -> None:
    now_running, most = 0, 0

    async def work(ctx: Any) -> None:
        nonlocal now_running, most
        now_running += 1
        most = max(most, now_running)
        await asyncio.sleep(0.001)
        now_running -= 1

    for _ in range(300):
        await redis.enqueue_job("work")
    await make_worker([func(work, name="work")], max_jobs=7, burst=True).main()
    assert most == 7


async def test_after_the_job_hook_sees_the_result_in_redis(redis: ArqRedis, make_worker: MakeWorker) -> None:
    seen: list[bytes | None] = []

    async def work(ctx: Any) -> None: ...

    async def after(ctx: Any) -> None:
        seen.append(await redis.get("arq:result:" + ctx["job_id"]))

    await redis.enqueue_job("work")
    await make_worker([func(work, name="work")], burst=True, after_job_end=after).main()
    assert len(seen) == 1
    assert seen[0] is not None


async def test_run_check_raises_for_failed_jobs(redis: ArqRedis, make_worker: MakeWorker) -> None:
    async def work(ctx: Any) -> None:
        raise LookupError("not here")

    await redis.enqueue_job("work")
    with pytest.raises(FailedJobs, match="not here"):
        await make_worker([func(work, name="work")], burst=True).run_check()


async def test_a_job_without_a_stored_result_leaves_no_key(redis: ArqRedis, make_worker: MakeWorker) -> None:
    async def work(ctx: Any) -> str:
        return "done"

    job = await redis.enqueue_job("work")
    assert job is not None
    await make_worker([func(work, name="work", keep_result=0)], burst=True).main()
    with pytest.raises(ResultNotFound):
        await job.result(timeout=1)


async def test_a_worker_writes_its_record_and_removes_it_at_the_end(redis: ArqRedis, make_worker: MakeWorker) -> None:
    async def work(ctx: Any) -> None: ...

    workers = [make_worker([func(work, name="work")], max_jobs=n) for n in (3, 4)]
    async with running(*workers):
        await wait_until(lambda: _records_are(redis, 2))
        records = {record.id: record for record in (await read_queue_state(redis, Keys())).workers}
        assert records.keys() == {worker.id for worker in workers}
        record = records[workers[0].id]
        assert (record.concurrency, record.functions, record.queue) == (3, ("work",), "arq:queue")
        assert record.heartbeat_s == workers[0].renew_s
        assert abs(record.heartbeat_ms / 1000 - time.time()) < 60
        assert abs(record.started_at_ms / 1000 - time.time()) < 60
    assert (await read_queue_state(redis, Keys())).workers == ()


async def test_a_worker_without_heartbeats_is_removed_from_the_list(redis: ArqRedis, make_worker: MakeWorker) -> None:
    async def work(ctx: Any) -> None: ...

    await redis.zadd("fetchq:workers:arq:queue", {"silent": 1})
    async with running(make_worker([func(work, name="work")])):
        await wait_until(lambda: _records_are(redis, 1))
        assert await redis.zscore("fetchq:workers:arq:queue", "silent") is None


async def test_a_worker_is_made_from_a_settings_class_as_arqs_is(redis: ArqRedis) -> None:
    async def work(ctx: Any) -> None: ...

    class WorkerSettings:
        functions = (work,)
        redis_pool = redis
        handle_signals = False
        max_jobs = 3
        lease_s = 4
        not_an_argument = 5

    ours = inspect.signature(Worker).parameters.keys()
    assert ours >= inspect.signature(arq.worker.Worker).parameters.keys()
    for described in (WorkerSettings, vars(WorkerSettings)):
        worker = create_worker(described, renew_s=2)
        assert (worker.max_jobs, worker.lease_s, worker.renew_s) == (3, 4, 2)
    with pytest.raises(TypeError, match="not_an_argument"):
        create_worker(WorkerSettings, not_an_argument=5)


@pytest.mark.parametrize("options", [{"lease_s": 0}, {"lease_s": 3, "renew_s": 3}, {"commit_ms": -1}, {"renew_s": 0}])
async def test_invalid_times_are_refused(embedded_redis: ArqRedis, options: dict[str, Any]) -> None:
    async def work(ctx: Any) -> None: ...

    with pytest.raises(ValueError, match=r"lease_s|commit_ms"):
        Worker([work], redis_pool=embedded_redis, handle_signals=False, **options)


async def test_results_are_written_by_any_serializer(redis: ArqRedis, make_worker: MakeWorker) -> None:
    async def work(ctx: Any) -> list[int]:
        return [1, 2]

    redis.job_serializer = msgspec.json.encode
    redis.job_deserializer = msgspec.json.decode
    job = await redis.enqueue_job("work")
    assert job is not None
    json = {"job_serializer": msgspec.json.encode, "job_deserializer": msgspec.json.decode}
    await make_worker([func(work, name="work")], burst=True, **json).main()
    assert await job.result(timeout=1) == [1, 2]


async def test_a_serializer_that_returns_no_bytes_costs_only_the_result(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    async def work(ctx: Any) -> None: ...

    def broken(value: dict[str, Any]) -> Any:
        return 7

    jobs = [await redis.enqueue_job("work") for _ in range(3)]
    worker = make_worker([func(work, name="work")], burst=True, job_serializer=broken)
    async with asyncio.timeout(10):
        await worker.main()
    assert worker.jobs_complete == 3
    assert [await Job(job.job_id, redis).status() for job in jobs if job] == [JobStatus.not_found] * 3


async def _key_exists(redis: ArqRedis, key: str) -> bool:
    return bool(await redis.exists(key))


async def _records_are(redis: ArqRedis, count: int) -> bool:
    return len((await read_queue_state(redis, Keys())).workers) == count


async def test_the_jobs_of_a_claim_that_is_under_way_at_sigterm_have_the_grace_time(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    runs: list[int] = []
    claimed, go = asyncio.Event(), asyncio.Event()

    async def work(ctx: Any) -> str:
        runs.append(ctx["job_try"])
        await asyncio.sleep(0.2)
        return "done"

    worker = make_worker([func(work, name="work")], job_completion_wait=10)
    claim = worker._claimer.claim

    async def claim_slowly(*arguments: Any, **options: Any) -> Any:
        reply = await claim(*arguments, **options)
        claimed.set()
        await go.wait()
        return reply

    worker._claimer.claim = claim_slowly  # type: ignore[method-assign]
    job = await redis.enqueue_job("work")
    assert job is not None
    async with running(worker), asyncio.timeout(10):
        await claimed.wait()
        worker.handle_sig_wait_for_completion(signal.SIGTERM)
        await asyncio.sleep(0)
        go.set()
        assert await job.result(timeout=10, poll_delay=0.02) == "done"
    assert runs == [1]


@pytest.mark.parametrize("name", ["", "q" * 201, "a\nb"])
async def test_a_queue_name_that_a_producer_refuses_is_refused_by_a_worker(redis: ArqRedis, name: str) -> None:
    async def work(ctx: Any) -> None:
        """Does nothing."""

    for make in (lambda: Producer(redis, queue=name), lambda: Worker([work], redis_pool=redis, queue_name=name)):
        with pytest.raises(InvalidRequest, match="queue: takes a name of 1 to 200 printable characters"):
            make()
