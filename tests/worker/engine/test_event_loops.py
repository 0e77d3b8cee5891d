"""Workers that are made before their event loop runs, run in another one, or run again."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from arq import func
from arq.connections import ArqRedis
from tests.support.redis_server import RedisServer
from tests.support.running import wait_until

from fetchq.store.connection import connect
from fetchq_worker.engine import Worker
from fetchq_worker.process.event_loop import WorkerLoop

SOON_S = 20


class Work:
    """A coroutine that notes its runs."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, int]] = []
        self.started = asyncio.Semaphore(0)

    async def quick(self, ctx: Any) -> str:
        self.runs.append((ctx["job_id"], ctx["job_try"]))
        return "done"

    async def slow(self, ctx: Any) -> None:
        self.runs.append((ctx["job_id"], ctx["job_try"]))
        self.started.release()
        await asyncio.sleep(60)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def new_worker(redis_server: RedisServer, work: Work) -> Iterator[Callable[..., Worker]]:
    """Makes workers on a real Redis, whose default is to handle no signals."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    def make(**options: Any) -> Worker:
        async def quick(ctx: Any) -> str:
            return await work.quick(ctx)

        async def slow(ctx: Any) -> None:
            await work.slow(ctx)

        functions = [func(quick, name="quick"), func(slow, name="slow")]
        pool = connect(redis_server.url, redis_class=ArqRedis)
        return Worker(functions, **{"redis_pool": pool, "handle_signals": False, "poll_delay": 0.05, **options})

    yield make
    loop.close()
    asyncio.set_event_loop(None)


async def enqueue(server: RedisServer, *names: str, first: int = 0) -> None:
    redis = connect(server.url, redis_class=ArqRedis)
    for number, name in enumerate(names, first):
        await redis.enqueue_job(name, _job_id=f"{name} {number}")
    await redis.aclose()


def test_the_timeout_of_a_worker_that_was_made_before_its_loop_ran_has_an_effect(
    new_worker: Callable[..., Worker], redis_server: RedisServer, work: Work
) -> None:
    worker = new_worker(burst=True, job_timeout=0.1)

    async def main() -> None:
        await enqueue(redis_server, "slow")
        worker.loop = asyncio.get_running_loop()
        async with asyncio.timeout(SOON_S):
            await worker.async_run()
        await worker.close()

    asyncio.run(main())
    assert (worker.jobs_failed, work.runs) == (1, [("slow 0", 1)])


def test_a_worker_runs_in_one_loop_after_another_and_the_jobs_of_an_ended_loop_run_again_uncounted(
    new_worker: Callable[..., Worker], redis_server: RedisServer, work: Work
) -> None:
    worker = new_worker()

    async def leave_running() -> None:
        await enqueue(redis_server, "slow", "quick")
        running = asyncio.create_task(worker.async_run())
        async with asyncio.timeout(SOON_S):
            await wait_until(lambda: len(work.runs) == 2 and worker.jobs_complete == 1)
            await worker.committer.flush()
        running.cancel()
        await asyncio.wait([running])
        await worker._heartbeat.stop()
        await worker.pool.aclose(close_connection_pool=True)  # else their sockets are closed by the garbage collector

    async def again() -> None:
        running = asyncio.create_task(worker.async_run())
        async with asyncio.timeout(SOON_S):
            await wait_until(lambda: len(work.runs) == 3)
        assert worker.running_count == 1
        await worker.close()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(leave_running())
    asyncio.run(again())
    assert sorted(work.runs) == [("quick 1", 1), ("slow 0", 1), ("slow 0", 1)]


def test_run_in_a_thread_ends_like_run_in_the_main_thread(
    new_worker: Callable[..., Worker], redis_server: RedisServer, work: Work
) -> None:
    async def main() -> Worker:
        worker = new_worker(burst=True, handle_signals=True)  # made in a loop that runs while the thread does
        await enqueue(redis_server, "quick", "quick")
        thread = threading.Thread(target=worker.run)
        thread.start()
        await asyncio.to_thread(thread.join, SOON_S)
        return worker

    worker = asyncio.run(main())
    assert (worker.jobs_complete, worker.jobs_failed) == (2, 0)


@pytest.mark.parametrize("end", ["close", "cancel", "signal", "burst"])
def test_a_worker_that_ended_runs_again(
    new_worker: Callable[..., Worker], redis_server: RedisServer, work: Work, end: str
) -> None:
    worker = new_worker()

    async def once(number: int) -> None:
        worker.burst = end == "burst"
        await enqueue(redis_server, "quick", first=number)
        running = asyncio.create_task(worker.async_run())
        async with asyncio.timeout(SOON_S):
            await wait_until(lambda: worker.jobs_complete == number)
            if end == "close":
                await worker.close()
            elif end == "cancel":
                running.cancel()
            elif end == "signal":
                worker.handle_sig(signal.SIGTERM)
            await asyncio.wait([running])

    async def main() -> None:
        for number in range(1, 4):
            await once(number)
        await worker.close()

    asyncio.run(main())
    assert work.runs == [("quick 1", 1), ("quick 2", 1), ("quick 3", 1)]


@pytest.mark.parametrize("loop_class", [asyncio.SelectorEventLoop, uvloop.Loop])
def test_no_sub_task_of_a_job_ends_the_event_loop(
    redis_server: RedisServer, loop_class: type[asyncio.AbstractEventLoop], caplog: pytest.LogCaptureFixture
) -> None:
    loop = loop_class()
    asyncio.set_event_loop(loop)
    kept: list[Any] = []

    async def leave(ctx: Any) -> None:
        async def fail() -> None:
            sys.exit(3)

        kept.append(asyncio.create_task(fail()))
        await asyncio.sleep(0.01)

    async def leave_by_callback(ctx: Any) -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 4)
        await asyncio.sleep(0.01)

    async def interrupt(ctx: Any) -> None:
        async def fail() -> None:
            raise KeyboardInterrupt

        kept.append(asyncio.create_task(fail()))
        await kept[-1]

    async def stop(ctx: Any) -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)

    functions = [leave, leave_by_callback, interrupt, stop]
    loop.run_until_complete(enqueue(redis_server, *(one.__name__ for one in functions)))
    worker = Worker(
        [func(one, name=one.__name__) for one in functions],
        redis_pool=connect(redis_server.url, redis_class=ArqRedis),
        burst=True,
        max_jobs=1,
    )
    worker.run()
    assert (worker.jobs_complete, worker.jobs_failed) == (3, 1)
    assert caplog.text.count("loop.interrupted") == 4
    assert {type(task.exception()) for task in kept} == {SystemExit, KeyboardInterrupt}
    loop.close()
    asyncio.set_event_loop(None)


def test_the_loop_of_the_command_ends_with_its_main_task_only() -> None:
    async def main(status: int | None) -> str:
        task = asyncio.create_task(asyncio.to_thread(print, end=""))
        asyncio.get_running_loop().call_soon(sys.exit, 5)
        await task
        if status is not None:
            sys.exit(status)
        return "whole"

    with asyncio.Runner(loop_factory=WorkerLoop) as runner:
        assert runner.run(main(None)) == "whole"
        with pytest.raises(SystemExit) as end:
            runner.run(main(7))
    assert end.value.code == 7
