"""What users and tools of arq read, wrap and override."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import arq.worker
import pytest
from arq.connections import ArqRedis
from arq.jobs import Job, JobStatus
from arq.worker import Retry, func
from tests.support.running import running, wait_until

from fetchq_worker.engine import Snooze, Worker
from fetchq_worker.engine.run.snooze import tell_sentry

from .conftest import NewClient

pytestmark = pytest.mark.asyncio

Make = Callable[..., Worker]

BURST: dict[str, Any] = {"burst": True, "handle_signals": False, "poll_delay": 0.02}

SPAN: ContextVar[str] = ContextVar("span", default="none")


async def _fail(ctx: Any, number: int) -> None:
    await asyncio.sleep(0)
    raise ValueError(f"{number} in the span of {SPAN.get()}")


async def _result(redis: ArqRedis, job_id: str) -> Any:
    info = await Job(job_id, redis).result_info()
    return None if info is None else (info.success, info.result)


class _Traced(Worker):
    """As the users of tracing libraries write it."""

    async def run_job(self, job_id: str, score: int) -> None:
        SPAN.set(job_id)
        await super().run_job(job_id, score)


async def test_an_overridden_run_job_encloses_the_run_of_its_own_job(redis: ArqRedis) -> None:
    for number in range(100):
        await redis.enqueue_job("_fail", number, _job_id=f"j{number}")
    worker = _Traced([_fail], redis_pool=redis, max_jobs=100, **BURST)
    await worker.main()
    assert worker.jobs_failed == 100
    for number in range(100):
        success, result = await _result(redis, f"j{number}")
        assert (success, str(result)) == (False, f"{number} in the span of j{number}")


@pytest.mark.parametrize("on_instance", [False, True])
async def test_run_job_may_be_wrapped_after_the_worker_was_made(
    redis: ArqRedis, monkeypatch: pytest.MonkeyPatch, on_instance: bool
) -> None:
    called: list[tuple[str, int]] = []
    worker = Worker([func(_noted([]), name="work")], redis_pool=redis, **BURST)
    held = worker.run_job if on_instance else arq.worker.Worker.run_job

    @functools.wraps(held)
    async def wrapper(*arguments: Any) -> None:
        called.append(arguments[-2:])
        await held(*arguments)

    monkeypatch.setattr(worker if on_instance else arq.worker.Worker, "run_job", wrapper)
    job = await redis.enqueue_job("work")
    assert job is not None
    info = await job.info()
    assert info is not None
    await worker.main()
    assert called == [(job.job_id, info.score)]
    assert await job.result() == 1


async def test_a_wrapper_that_was_made_before_the_import_ends_in_the_engines_run() -> None:
    script = """
import asyncio
import arq.worker
held, called = arq.worker.Worker.run_job, []

class Wrapper:
    "Holds arq's function where no attribute of the class leads to it."
    def __get__(self, worker, kind):
        if worker is None:
            return self
        async def run_job(job_id, score):
            called.append(type(worker).__module__)
            await held(worker, job_id, score)
        return run_job

arq.worker.Worker.run_job = Wrapper()

from fetchq_worker.engine import Worker
from fetchq_worker.process.embedded import EmbeddedRedis

async def work(ctx):
    return "fetchq" in ctx

async def main():
    for kind in (Worker, arq.worker.Worker):
        redis = EmbeddedRedis().client()
        job = await redis.enqueue_job("work")
        worker = kind([work], redis_pool=redis, burst=True, handle_signals=False)
        await worker.main()
        print(await job.result(), called.pop())

asyncio.run(main())
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["True fetchq_worker.engine.worker", "False arq.worker"]


async def test_an_error_of_an_overridden_run_job_is_the_result_of_its_own_job_alone(
    redis: ArqRedis, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Worker):
        async def run_job(self, job_id: str, score: int) -> None:
            if job_id == "before":
                raise RuntimeError("no span")
            await super().run_job(job_id, score)
            if job_id == "after":
                raise RuntimeError("no end")

    runs: list[str] = []
    for job_id in ("before", "after", "well"):
        await redis.enqueue_job("work", _job_id=job_id)
    worker = Broken([func(_noted(runs), name="work")], redis_pool=redis, **BURST)
    await worker.main()
    assert sorted(runs) == ["after", "well"]
    success, result = await _result(redis, "before")
    assert (success, repr(result)) == (False, "RuntimeError('no span')")
    assert await _result(redis, "after") == await _result(redis, "well") == (True, 1)
    assert (worker.running_count, worker.tasks, len(worker.leases)) == (0, {}, 0)
    assert caplog.text.count("worker.run_job_failed job=") == 2


async def test_a_job_that_an_override_does_not_run_is_due_again_after_arqs_time_in_progress(
    redis: ArqRedis, caplog: pytest.LogCaptureFixture
) -> None:
    class Idle(Worker):
        async def run_job(self, job_id: str, score: int) -> None:
            if job_id != "skipped":
                await super().run_job(job_id, score)

    await redis.enqueue_job("work", _job_id="skipped")
    await redis.enqueue_job("work", _job_id="other")
    worker = Idle([func(_noted([]), name="work")], redis_pool=redis, **{**BURST, "burst": False})
    async with running(worker):
        await wait_until(lambda: worker.jobs_complete == 1)
        await wait_until(lambda: not worker.committer.backlog and not worker.running_count)
        seconds, micros = await redis.time()
        due_in_ms = await redis.zscore("arq:queue", "skipped") - (seconds * 1000 + micros / 1000)
    assert worker.in_progress_timeout_s == 310
    assert 300_000 < due_in_ms <= 310_000
    assert "worker.job_not_run job=skipped" in caplog.text


async def test_a_run_job_that_is_called_twice_runs_its_job_once(redis: ArqRedis) -> None:
    class Twice(Worker):
        async def run_job(self, job_id: str, score: int) -> None:
            await asyncio.create_task(super().run_job(job_id, score))
            await super().run_job(job_id, score)

    runs: list[str] = []
    job = await redis.enqueue_job("work")
    assert job is not None
    await Twice([func(_noted(runs), name="work")], redis_pool=redis, **BURST).main()
    assert runs == [job.job_id]
    assert await job.result() == 1


class _Finishing(Worker):
    """Notes the arguments of arq's methods, changes them as `change` says, and passes them on unless `keeps`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.change: dict[int, Any] = {}
        self.keeps = False
        super().__init__(*arguments, **options)

    async def finish_job(self, *arguments: Any) -> None:
        self.calls.append(arguments)
        if not self.keeps:
            await super().finish_job(*(self.change.get(i, it) for i, it in enumerate(arguments)))

    async def finish_failed_job(self, job_id: str, result_data: bytes | None) -> None:
        self.calls.append((job_id, result_data))
        await super().finish_failed_job(job_id, result_data)


async def test_finish_methods_are_called_with_arqs_arguments(redis: ArqRedis) -> None:
    async def again(ctx: Any) -> str:
        if ctx["job_try"] == 1:
            raise Retry(0.05)
        return "in the second try"

    for name in ("again", "unknown", "kept"):
        await redis.enqueue_job(name, _job_id=name)
    functions = [func(again, name="again", keep_result=20), func(_noted([]), name="kept", keep_result_forever=True)]
    worker = _Finishing(functions, redis_pool=redis, **BURST)
    await worker.main()
    calls = {(call[0], n): call for n, call in enumerate(worker.calls)}
    again_calls = [call for (job_id, _), call in calls.items() if job_id == "again"]
    (_, retried, no_data, _, _, incr_score, in_progress), (_, ended, data, ttl_s, forever, no_score, _) = again_calls
    assert (retried, no_data, in_progress) == (False, None, None)
    assert 50 <= incr_score < 5000, "from the time at which the job was due, as arq counts"
    assert (ended, ttl_s, forever, no_score) == (True, 20.0, False, None)
    assert isinstance(data, bytes)
    [kept] = [call for call in worker.calls if call[0] == "kept"]
    assert kept[3:5] == (None, True)
    [unknown] = [call for call in worker.calls if call[0] == "unknown"]
    assert len(unknown) == 2
    assert await _result(redis, "again") == (True, "in the second try")
    assert 15 < await redis.ttl("arq:result:again") <= 20
    assert await redis.ttl("arq:result:kept") == -1
    assert str((await _result(redis, "unknown"))[1]) == "function 'unknown' not found"


async def test_what_an_override_makes_of_the_arguments_is_committed(redis: ArqRedis) -> None:
    worker = _Finishing([func(_noted([]), name="work")], redis_pool=redis, **BURST)
    worker.change = {3: 7.0}
    await redis.enqueue_job("work", _job_id="short")
    await worker.main()
    assert 5 < await redis.ttl("arq:result:short") <= 7
    worker.change = {1: False, 2: None, 5: 3_600_000}
    await redis.enqueue_job("work", _job_id="later")
    worker.burst = False
    async with running(worker):
        await wait_until(lambda: len(worker.calls) == 2 and not worker.committer.backlog)
    assert await Job("later", redis).status() is JobStatus.deferred


async def test_an_override_that_passes_nothing_on_ends_the_job_with_the_result_that_it_stored(redis: ArqRedis) -> None:
    worker = _Finishing([func(_noted([]), name="work")], redis_pool=redis, **BURST)
    worker.keeps = True
    for job_id in ("stored", "dropped"):
        await redis.enqueue_job("work", _job_id=job_id)
    await redis.set("arq:result:stored", b"of the override")
    await worker.main()
    assert await redis.get("arq:result:stored") == b"of the override"
    assert await _result(redis, "dropped") == (True, 1)
    assert await redis.keys("arq:queue") == await redis.keys("fetchq:leases:*") == []


async def test_overrides_that_are_never_called_are_named_when_the_worker_is_made(
    redis: ArqRedis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Filtered(_Traced):
        async def start_jobs(self, job_ids: list[bytes]) -> None: ...

    _Traced([_fail], redis_pool=redis, **BURST)
    assert caplog.text == ""
    Filtered([_fail], redis_pool=redis, **BURST)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    where = f"{__name__}.{Filtered.__qualname__}"
    assert record.getMessage() == (
        f"worker.override_not_called method=start_jobs in={where}:"
        " the engine claims jobs in batches; use on_job_start, or override run_job"
    )
    caplog.clear()
    monkeypatch.setattr(arq.worker.Worker, "main", lambda worker: None)
    Worker([_fail], redis_pool=redis, **BURST)
    assert "method=main in=arq.worker.Worker: the engine has its own" in caplog.text


async def test_the_other_methods_of_arqs_worker_are_called(redis: ArqRedis) -> None:
    called: list[str] = []

    class Noting(Worker):
        async def heart_beat(self) -> None:
            called.append("heart_beat")
            await super().heart_beat()

        async def record_health(self) -> None:
            called.append("record_health")
            await super().record_health()

        async def run_cron(self, *arguments: Any) -> None:
            called.append("run_cron")
            await super().run_cron(*arguments)

        async def main(self) -> None:
            called.append("main")
            await super().main()

        async def close(self) -> None:
            called.append("close")
            await super().close()

        def handle_sig(self, signum: signal.Signals) -> None:
            called.append("handle_sig")
            super().handle_sig(signum)

    worker = Noting([_fail], redis_pool=redis, **BURST)
    await worker.async_run()
    await worker.close()
    assert called == ["main", "heart_beat", "record_health", "run_cron", "close", "handle_sig"]


async def test_a_coroutine_enqueues_with_arqs_options(redis: ArqRedis) -> None:
    async def parent(ctx: Any) -> list[bool]:
        def enqueue() -> Any:
            return ctx["redis"].enqueue_job("child", 1, _job_id="child", _defer_by=timedelta(hours=1), _job_try=3)

        return [await enqueue() is not None for _ in range(2)]

    job = await redis.enqueue_job("parent")
    assert job is not None
    worker = Worker([func(parent, name="parent")], redis_pool=redis, max_burst_jobs=1, **BURST)
    await worker.main()
    assert await job.result() == [True, False]
    info = await Job("child", redis).info()
    assert info is not None
    assert (info.args, info.kwargs, info.job_try) == ((1,), {}, 3)
    assert await Job("child", redis).status() is JobStatus.deferred


async def test_job_tasks_job_counter_and_sem_show_what_runs(redis: ArqRedis) -> None:
    started, may_end = asyncio.Semaphore(0), asyncio.Event()

    async def work(ctx: Any) -> None:
        started.release()
        await may_end.wait()

    for number in range(2):
        await redis.enqueue_job("work", _job_id=f"j{number}")
    worker = Worker([func(work, name="work")], redis_pool=redis, max_jobs=2, **{**BURST, "burst": False})
    assert (worker.job_counter, worker.job_tasks, worker.sem._value) == (0, {}, 3)
    async with running(worker):
        for _ in range(2):
            await started.acquire()
        assert (worker.job_counter, set(worker.job_tasks), worker.sem._value) == (2, {"j0", "j1"}, 1)
        assert repr(worker) == "<Worker j_complete=0 j_failed=0 j_retried=0 j_ongoing=2>"
        may_end.set()
        await wait_until(lambda: worker.jobs_complete == 2 and not worker.job_tasks)
        assert (worker.job_counter, worker.sem._value) == (0, 3)


async def test_a_stock_client_reads_the_queue_and_the_results(redis: ArqRedis, new_client: NewClient) -> None:
    started, may_end = asyncio.Event(), asyncio.Event()

    async def work(ctx: Any, what: str) -> str:
        if what == "running":
            started.set()
            await may_end.wait()
        return what

    client = new_client()
    for what in ("done", "running"):
        await client.enqueue_job("work", what, _job_id=what)
    await client.enqueue_job("work", "later", _job_id="later", _defer_by=100)
    async with running(Worker([func(work, name="work")], redis_pool=redis, **{**BURST, "burst": False})):
        await started.wait()
        await Job("done", client).result(timeout=5, poll_delay=0.01)
        statuses = {job_id: await Job(job_id, client).status() for job_id in ("done", "running", "later", "none")}
        assert statuses == {
            "done": JobStatus.complete,
            "running": JobStatus.in_progress,
            "later": JobStatus.deferred,
            "none": JobStatus.not_found,
        }
        assert {it.job_id: it.args for it in await client.queued_jobs()} == {
            "running": ("running",),
            "later": ("later",),
        }
        [result] = await client.all_job_results()
        assert (result.job_id, result.result, result.queue_name) == ("done", "done", "arq:queue")
        may_end.set()
        assert await Job("running", client).result(timeout=5, poll_delay=0.01) == "running"


async def test_sentry_takes_snooze_for_control_flow_as_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    tell_sentry()  # without Sentry it does nothing
    module = SimpleNamespace(ARQ_CONTROL_FLOW_EXCEPTIONS=(Retry,))
    monkeypatch.setitem(sys.modules, "sentry_sdk.integrations.arq", module)
    for _ in range(2):
        tell_sentry()
        assert (Retry, Snooze) == module.ARQ_CONTROL_FLOW_EXCEPTIONS


def _noted(runs: list[str]) -> Any:
    async def work(ctx: Any) -> int:
        runs.append(ctx["job_id"])
        return 1

    return work
