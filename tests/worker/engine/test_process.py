"""Worker processes that are killed or stopped by a signal."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from arq.connections import ArqRedis
from tests.support.redis_server import RedisServer
from tests.support.running import wait_until
from tests.support.scripted_queue import job_keys

from fetchq.inspect.queue import read_queue_state
from fetchq.store.connection import connect
from fetchq.store.keys import Keys

pytestmark = pytest.mark.asyncio

PROGRAM = Path(__file__).with_name("worker_process.py")


class WorkerProcess:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def started(self) -> tuple[str, int]:
        """The id and the try of the next job that the process starts."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            _, job_id, tries = (await self.process.stdout.readline()).decode().split()
        return job_id, int(tries)

    async def end(self, number: signal.Signals) -> int:
        """Sends the signal and waits for the end of the process."""
        self.process.send_signal(number)
        async with asyncio.timeout(20):
            return await self.process.wait()


@asynccontextmanager
async def worker_process(
    server: RedisServer, *, lease_s: float = 15, grace_s: float = 0
) -> AsyncIterator[WorkerProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), server.url, str(lease_s), str(grace_s), stdout=asyncio.subprocess.PIPE
    )
    try:
        yield WorkerProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def enqueue(redis: ArqRedis, job_id: str, for_s: float = 60) -> float:
    await redis.enqueue_job("work", for_s, _job_id=job_id)
    return await redis.zscore("arq:queue", job_id) or 0


async def test_a_killed_workers_job_runs_again_within_its_lease(
    redis_server: RedisServer, real_redis: ArqRedis
) -> None:
    await enqueue(real_redis, "a")
    async with worker_process(redis_server, lease_s=2) as killed:
        assert await killed.started() == ("a", 1)
        async with worker_process(redis_server, lease_s=2) as other:
            await wait_until(lambda: _workers_are(real_redis, 2))
            killed_at = time.monotonic()
            await killed.end(signal.SIGKILL)
            assert await other.started() == ("a", 2)
            assert time.monotonic() - killed_at < 3


async def test_sigterm_without_grace_time_requeues_the_running_jobs(
    redis_server: RedisServer, real_redis: ArqRedis
) -> None:
    scores = [await enqueue(real_redis, f"{n}") for n in range(20)]
    async with worker_process(redis_server) as stopped:
        for _ in range(20):
            await stopped.started()
        assert await stopped.end(signal.SIGTERM) == 0
    assert [await real_redis.zscore("arq:queue", f"{n}") for n in range(20)] == scores
    left = {key.decode() for key in await job_keys(real_redis) if not key.startswith(b"arq:job:")}
    left.discard("fetchq:maintenance-cursor:arq:queue")  # there for a minute after each look for lost jobs
    assert left == {"arq:queue", "fetchq:wake:arq:queue"}
    async with worker_process(redis_server) as next_one:
        assert sorted([await next_one.started() for _ in range(20)]) == sorted((f"{n}", 1) for n in range(20))


async def test_sigterm_with_grace_time_finishes_what_it_can_and_requeues_the_rest(
    redis_server: RedisServer, real_redis: ArqRedis
) -> None:
    await enqueue(real_redis, "short", 0.5)
    long_score = await enqueue(real_redis, "long")
    async with worker_process(redis_server, grace_s=1.5) as stopped:
        for _ in range(2):
            await stopped.started()
        ending = asyncio.create_task(stopped.end(signal.SIGTERM))
        await asyncio.sleep(0.1)
        await enqueue(real_redis, "late")
        assert await ending == 0
    assert await real_redis.exists("arq:result:short") == 1
    assert await real_redis.zrange("arq:queue", 0, -1) == [b"long", b"late"]
    assert await real_redis.zscore("arq:queue", "long") == long_score
    assert await real_redis.exists("arq:retry:long", "arq:in-progress:long") == 0


async def test_a_busy_worker_that_is_stopped_loses_and_repeats_no_job(
    redis_server: RedisServer, real_redis: ArqRedis
) -> None:
    for number in range(600):
        await enqueue(real_redis, f"{number}", 0.002)
    runs: list[tuple[str, int]] = []

    async def is_drained() -> bool:
        return bool(await real_redis.zcard("arq:queue") == 0)

    while remaining := await real_redis.zcard("arq:queue"):
        async with worker_process(redis_server, lease_s=60) as stopped:
            if remaining > 150:
                for _ in range(150):
                    runs.append(await stopped.started())
            else:  # each stop cancels the jobs that have just started: few jobs would take any number of stops
                await wait_until(is_drained, timeout_s=20)
            assert await stopped.end(signal.SIGTERM) == 0
            assert stopped.process.stdout is not None
            for line in (await stopped.process.stdout.read()).decode().splitlines():
                _, job_id, tries = line.split()
                runs.append((job_id, int(tries)))
        assert await real_redis.hlen("fetchq:leases:arq:queue") == 0  # type: ignore[misc]
    assert {job_id for job_id, _ in runs} == {f"{number}" for number in range(600)}
    assert {tries for _, tries in runs} == {1}
    assert len(await real_redis.keys("arq:result:*")) == 600


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_worker_that_is_stopped_removes_its_record(
    redis_server: RedisServer, real_redis: ArqRedis, number: signal.Signals
) -> None:
    async with worker_process(redis_server) as stopped:
        await wait_until(lambda: _workers_are(real_redis, 1))
        assert await stopped.end(number) == 0
    assert (await read_queue_state(real_redis, Keys())).workers == ()
    assert await real_redis.keys("fetchq:worker:*") == []


async def test_a_worker_stops_in_bounded_time_while_redis_hangs(
    own_redis_server: RedisServer,
) -> None:
    async with connect(own_redis_server.url, redis_class=ArqRedis) as redis:
        await enqueue(redis, "a")
        async with worker_process(own_redis_server) as stopped:
            assert await stopped.started() == ("a", 1)
            with own_redis_server.hung():
                assert await stopped.end(signal.SIGTERM) == 0


async def _workers_are(redis: ArqRedis, count: int) -> bool:
    return bool(await redis.zcard("fetchq:workers:arq:queue") == count)
