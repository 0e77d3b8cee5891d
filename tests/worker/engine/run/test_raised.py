"""What a job raises ends its own run, at once, and is told with type and message."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import arq.worker
import msgspec
import pytest
from arq import cron, func
from arq.connections import ArqRedis
from arq.jobs import Job, SerializationError
from arq.worker import Retry, RetryJob
from tests.support.running import running
from tests.worker.engine.conftest import MakeWorker

from fetchq import JobFailed
from fetchq.contract import wire
from fetchq_worker.engine.run.raised import is_the_jobs, told

from .odd_exceptions import (
    PanicException,
    TwoArguments,
    Unprintable,
    WithHandle,
    WithoutCause,
    WithoutClass,
    WithoutName,
    WithoutTraceback,
)

pytestmark = pytest.mark.asyncio

MSGPACK = {"job_serializer": wire.serialize, "job_deserializer": wire.deserialize}


def parse_arguments() -> NoReturn:
    import argparse

    argparse.ArgumentParser(prog="job", exit_on_error=True).parse_args(["--unknown"])
    raise AssertionError("argparse exits")


def throw(problem: BaseException) -> NoReturn:
    raise problem


def throw_from(problem: BaseException, cause: BaseException) -> NoReturn:
    raise problem from cause


RAISED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "exit": (lambda: sys.exit(0), "SystemExit", "0"),
    "exit with a message": (lambda: sys.exit("no input"), "SystemExit", "no input"),
    "argparse": (parse_arguments, "SystemExit", "2"),
    "interrupt": (lambda: throw(KeyboardInterrupt("mine")), "KeyboardInterrupt", "mine"),
    "generator exit": (lambda: throw(GeneratorExit("gone")), "GeneratorExit", "gone"),
    "panic": (lambda: throw(PanicException("index out of bounds")), "PanicException", "index out of bounds"),
    "base exception": (lambda: throw(BaseException("base")), "BaseException", "base"),
    "stop": (lambda: throw(StopIteration("early")), "RuntimeError", "coroutine raised StopIteration: early"),
    "surrogate": (lambda: throw(ValueError("caf\ud83d")), "ValueError", "caf\\ud83d"),
    "surrogate in the cause": (lambda: throw_from(ValueError("a"), KeyError("\udcff")), "ValueError", r"a: '\udcff'"),
    "no message to be had": (lambda: throw(Unprintable()), "Unprintable", "<unreadable: PanicException>"),
    "group": (
        lambda: throw(ExceptionGroup("both", [ValueError("one"), ExceptionGroup("", [PermissionError("two")])])),
        "ExceptionGroup",
        "both (2 sub-exceptions): ValueError: one; ExceptionGroup:  (1 sub-exception): PermissionError: two",
    ),
    "made at run time": (lambda: throw(type("Made", (Exception,), {})("here")), "Made", "here"),
    "cannot be unpickled": (lambda: throw(TwoArguments(404, "gone")), "TwoArguments", "404 gone"),
    "cannot be pickled": (lambda: throw(WithHandle()), "WithHandle", "the file is open"),
    "no name to be had": (lambda: throw(WithoutName("x")), "<unreadable: PanicException>", "x"),
    "no name in a group": (
        lambda: throw(ExceptionGroup("one", [WithoutName("x")])),
        "ExceptionGroup",
        "one (1 sub-exception): <unreadable: PanicException>: x",
    ),
    "no cause to be had": (
        lambda: throw(WithoutCause("x")),
        "RuntimeError",
        "WithoutCause: x (its class does not let it be examined: PanicException: no cause)",
    ),
    "no traceback to be had": (
        lambda: throw(WithoutTraceback("x")),
        "RuntimeError",
        "WithoutTraceback: x (its class does not let it be examined: LookupError: no traceback)",
    ),
    "no class to be had": (
        lambda: throw(WithoutClass("x")),
        "RuntimeError",
        "WithoutClass: x (its class does not let it be examined: LookupError: no class)",
    ),
    "a cause that cannot be shown": (lambda: throw_from(ValueError("a"), WithoutCause("b")), "ValueError", "a: b"),
    "long": (lambda: throw(ValueError("x" * 1_000_000)), "ValueError", "x" * (wire.MAX_MESSAGE_CHARS - 3) + "..."),
}


NOT_IN_A_PICKLE = {
    "stop",
    "surrogate",
    "surrogate in the cause",
    "long",
    "group",
    "no name in a group",
    "a cause that cannot be shown",
}
"""A pickled exception is complete but for its cause."""


@pytest.mark.parametrize("name", RAISED)
async def test_what_a_job_raises_is_its_result_after_one_run(
    redis: ArqRedis, make_worker: MakeWorker, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    act, kind, message = RAISED[name]
    runs: list[str] = []

    async def work(ctx: Any) -> None:
        runs.append(ctx["job_id"])
        act()

    redis.job_serializer, redis.job_deserializer = wire.serialize, wire.deserialize
    job = await redis.enqueue_job("work", _job_id="a")
    assert job is not None
    worker = make_worker([func(work, name="work")], burst=True, dead_letter_max=10, **MSGPACK)
    await worker.main()
    with pytest.raises(JobFailed) as failure:
        await job.result(timeout=1)
    assert (failure.value.type, failure.value.message) == (kind, message)
    assert runs == ["a"]
    assert (worker.jobs_failed, worker.jobs_retried, worker.running_count) == (1, 0, 0)
    assert await redis.zscore("fetchq:dead:arq:queue", "a") is not None
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"a:work failed, {kind}: {message}" in line.getMessage()
    logged = logging.Formatter().format(line)
    assert "test_raised.py" in logged, "the traceback"
    assert logged.encode()


@pytest.mark.parametrize("name", sorted(RAISED.keys() - NOT_IN_A_PICKLE))
async def test_a_stock_client_reads_from_a_pickle_what_a_job_raised(
    redis: ArqRedis, make_worker: MakeWorker, name: str
) -> None:
    act, kind, message = RAISED[name]

    async def work(ctx: Any) -> None:
        act()

    job = await redis.enqueue_job("work")
    assert job is not None
    await make_worker([func(work, name="work")], burst=True).main()
    with pytest.raises(Exception) as failure:
        await job.result(timeout=1)
    assert not isinstance(failure.value, SerializationError)
    assert told(failure.value) in (f"{kind}: {message}", f"RuntimeError: {kind}: {message}")


async def test_an_exception_of_a_class_that_a_client_knows_is_raised_there_as_it_was(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    async def work(ctx: Any) -> None:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    job = await redis.enqueue_job("work")
    assert job is not None
    await make_worker([func(work, name="work")], burst=True).main()
    with pytest.raises(UnicodeDecodeError, match="invalid start byte"):
        await job.result(timeout=1)


async def test_a_serializer_that_knows_no_exceptions_stores_type_and_message(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    async def work(ctx: Any) -> None:
        raise PanicException("index out of bounds")

    json: dict[str, Any] = {"job_serializer": msgspec.json.encode, "job_deserializer": msgspec.json.decode}
    redis.job_serializer, redis.job_deserializer = msgspec.json.encode, msgspec.json.decode
    job = await redis.enqueue_job("work")
    assert job is not None
    await make_worker([func(work, name="work")], burst=True, **json).main()
    info = await job.result_info()
    assert info is not None
    assert (info.success, info.result) == (False, "RuntimeError: PanicException: index out of bounds")


async def test_a_job_that_spoils_its_arguments_still_tells_its_error(redis: ArqRedis, make_worker: MakeWorker) -> None:
    async def work(ctx: Any, items: list[Any]) -> None:
        items.append(object())
        raise LookupError("not here")

    redis.job_serializer, redis.job_deserializer = wire.serialize, wire.deserialize
    job = await redis.enqueue_job("work", [])
    assert job is not None
    await make_worker([func(work, name="work")], burst=True, **MSGPACK).main()
    with pytest.raises(JobFailed, match="LookupError: not here"):
        await job.result(timeout=1)


async def test_values_whose_repr_or_serialization_exits_cost_no_other_job(
    redis: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    class Exits:
        def __repr__(self) -> str:
            sys.exit(3)

        def __reduce__(self) -> NoReturn:
            sys.exit(4)

    async def work(ctx: Any, give: bool) -> Any:
        return Exits() if give else "done"

    caplog.set_level(logging.INFO)
    odd, plain = await redis.enqueue_job("work", True), await redis.enqueue_job("work", False)
    assert odd is not None
    assert plain is not None
    await make_worker([func(work, name="work")], burst=True).main()
    assert await plain.result(timeout=1) == "done"
    with pytest.raises(SerializationError, match="unable to serialize result"):
        await odd.result(timeout=1)
    assert "<repr failed: SystemExit: 3>" in caplog.text


async def test_hooks_and_deserializers_that_exit_end_no_worker(redis: ArqRedis, make_worker: MakeWorker) -> None:
    async def leave(ctx: Any) -> None:
        sys.exit(1)

    async def work(ctx: Any) -> str:
        return "done"

    def unreadable(data: bytes) -> dict[str, Any]:
        raise PanicException("cannot parse")

    hooked, broken = await redis.enqueue_job("work"), await redis.enqueue_job("work", _queue_name="other")
    started = await redis.enqueue_job("work", _queue_name="third")
    assert hooked is not None
    assert broken is not None
    assert started is not None
    functions = [func(work, name="work")]
    await make_worker(functions, burst=True, on_job_end=leave, after_job_end=leave).main()
    assert await hooked.result(timeout=1) == "done"
    worker = make_worker(functions, burst=True, queue_name="other", job_deserializer=unreadable)
    await worker.main()
    assert worker.jobs_failed == 1
    with pytest.raises(SerializationError, match="unable to deserialize job"):
        await broken.result(timeout=1)
    await make_worker(functions, burst=True, queue_name="third", on_job_start=leave).main()
    with pytest.raises(RuntimeError, match="SystemExit: 1"):
        await started.result(timeout=1)


async def test_what_a_thread_or_a_sub_task_of_a_job_raises_is_the_jobs_failure(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    async def in_thread(ctx: Any) -> None:
        await asyncio.to_thread(sys.exit, 3)

    async def in_group(ctx: Any) -> None:
        async def fail(number: int) -> None:
            raise PanicException(f"{number}")

        async with asyncio.TaskGroup() as group:
            group.create_task(fail(1))

    thread, group = await redis.enqueue_job("in_thread"), await redis.enqueue_job("in_group")
    assert thread is not None
    assert group is not None
    worker = make_worker([func(in_thread, name="in_thread"), func(in_group, name="in_group")], burst=True)
    await worker.main()
    with pytest.raises(RuntimeError, match="SystemExit: 3"):
        await thread.result(timeout=1)
    with pytest.raises(RuntimeError, match=r"BaseExceptionGroup: .* \(1 sub-exception\): PanicException: 1"):
        await group.result(timeout=1)


async def own_raise() -> None:
    raise asyncio.CancelledError("the upstream gave up")


async def of_a_future() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel("the upstream gave up")
    await future


async def of_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel("the upstream gave up")
    await asyncio.sleep(60)


@pytest.mark.parametrize("cancel", [own_raise, of_a_future, of_itself])
async def test_a_job_that_raises_cancelled_error_fails_after_one_run_and_tells_the_cause(
    redis: ArqRedis, make_worker: MakeWorker, cancel: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    runs: list[str] = []

    async def work(ctx: Any) -> None:
        runs.append(ctx["job_id"])
        await cancel()

    job = await redis.enqueue_job("work")
    assert job is not None
    worker = make_worker([func(work, name="work")], burst=True, dead_letter_max=10)
    await worker.main()
    with pytest.raises(RuntimeError, match="raised CancelledError, but was not cancelled: the upstream gave up"):
        await job.result(timeout=1)
    assert (len(runs), worker.jobs_failed, worker.jobs_retried) == (1, 1, 0)
    assert await redis.zscore("fetchq:dead:arq:queue", job.job_id) is not None
    assert "test_raised.py" in caplog.text, "the traceback"


async def test_a_cron_job_that_raises_cancelled_error_runs_again_as_by_arq_and_tells_the_cause_at_last(
    redis: ArqRedis, make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(arq.worker, "keep_cronjob_progress", 0.01)
    tries: list[int] = []

    async def tick(ctx: Any) -> None:
        tries.append(ctx["job_try"])
        await own_raise()

    job = cron(tick, name="tick", hour=5, run_at_startup=True, max_tries=2, keep_result=60)
    worker = make_worker([], cron_jobs=[job], burst=True)
    await worker.main()
    assert tries == [1, 2]
    [result] = await redis.all_job_results()
    message = str(result.result)
    assert message.startswith("max 2 retries exceeded: RuntimeError: the job raised CancelledError, but was not")
    assert message.endswith("the upstream gave up")
    assert "will be run again: the job raised CancelledError" in caplog.text


@pytest.mark.parametrize("again", [Retry, functools.partial(Retry, defer=3600), RetryJob])
async def test_a_job_without_a_try_left_fails_at_once_and_tells_its_last_error(
    redis: ArqRedis, make_worker: MakeWorker, again: Callable[[], Exception], caplog: pytest.LogCaptureFixture
) -> None:
    async def work(ctx: Any) -> None:
        try:
            throw(OSError(f"attempt {ctx['job_try']}"))
        except OSError as problem:
            if ctx["job_try"] == 1:
                raise Retry from problem
            raise again()  # noqa: B904 - the context is told as well as a cause

    job = await redis.enqueue_job("work")
    assert job is not None
    worker = make_worker([func(work, name="work", max_tries=2)], burst=True)
    async with asyncio.timeout(10):
        await worker.main()
    info = await job.result_info()
    assert info is not None
    assert (info.job_try, str(info.result)) == (2, "max 2 retries exceeded: OSError: attempt 2")
    assert (worker.jobs_retried, worker.jobs_failed) == (2, 1)
    assert "max retries 2 exceeded" in caplog.text


async def test_a_job_whose_workers_were_lost_says_so_after_its_last_try(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    async def work(ctx: Any) -> None:
        raise AssertionError("it ran")

    lost, given = await redis.enqueue_job("work"), await redis.enqueue_job("work", _job_try=3)
    assert lost is not None
    assert given is not None
    await redis.set(f"arq:retry:{lost.job_id}", 2)
    await make_worker([func(work, name="work", max_tries=2)], burst=True).main()
    told_of = {job.job_id: str(info.result) for job in (lost, given) if (info := await job.result_info())}
    assert told_of == {
        lost.job_id: "max 2 retries exceeded: the last run has no outcome, its worker was lost",
        given.job_id: "max 2 retries exceeded",
    }


async def test_ctrl_c_in_the_midst_of_a_job_is_not_the_jobs_failure(redis: ArqRedis, make_worker: MakeWorker) -> None:
    """In a program that handles no signals itself, Python raises `KeyboardInterrupt` in whatever code runs."""

    async def work(ctx: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    job = await redis.enqueue_job("work")
    assert job is not None
    score = await redis.zscore("arq:queue", job.job_id)
    worker = make_worker([func(work, name="work")])
    [lease] = (await worker._claimer.claim((await worker._open()).jobs, 1)).leases
    worker.leases.add(lease)
    lease.task = worker.tasks[lease.id] = asyncio.current_task()  # type: ignore[assignment]  # of a test
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            await worker._runner.run(lease)
    finally:
        signal.signal(signal.SIGINT, before)
    await worker.committer.flush()
    assert await redis.zscore("arq:queue", job.job_id) == score
    assert await redis.exists(f"arq:retry:{job.job_id}", f"arq:in-progress:{job.job_id}") == 0
    assert worker.jobs_failed == 0


async def test_a_coroutine_that_is_closed_reports_nothing() -> None:
    other = asyncio.current_task()
    task = asyncio.create_task(asyncio.sleep(0))
    assert other is not None
    assert is_the_jobs(GeneratorExit(), other)
    assert not is_the_jobs(GeneratorExit(), task)
    await task
    assert not await asyncio.to_thread(is_the_jobs, GeneratorExit(), other), "no loop runs there"


async def test_a_worker_goes_on_after_a_job_of_each_kind(redis: ArqRedis, make_worker: MakeWorker) -> None:
    async def work(ctx: Any, name: str) -> str:
        if name in RAISED:
            RAISED[name][0]()
        return name

    for name in RAISED:
        await redis.enqueue_job("work", name)
    worker = make_worker([func(work, name="work")], max_jobs=3)
    async with running(worker), asyncio.timeout(20):
        last = await redis.enqueue_job("work", "last")
        assert last is not None
        assert await Job(last.job_id, redis).result(poll_delay=0.01) == "last"
    assert (worker.jobs_complete, worker.jobs_failed) == (1, len(RAISED))
