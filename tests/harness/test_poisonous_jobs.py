"""A job that kills its worker each time ends as WORKER_LOST with a dead letter, and the queue continues."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from harness.poisonous_jobs import KEY_DEADLY_AT_END, KEY_DEADLY_AT_START, POISON_TRIES, POISONOUS_URL, STATUS
from tests.support.redis_server import RedisServer

from fetchq import FetchRequest, FetchStatus, JobFailed, Producer, RetryOutcome
from fetchq_worker.fetch.job.crashes import MAX_CRASHES

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]

PROJECT = Path(__file__).parents[2]
LEASE_S = 0.5


async def _run_worker(server: RedisServer) -> int:
    """The exit status of a worker that runs until the queue is empty, or a job kills it.

    One job at a time: other jobs that die with it would also lose a try.
    """
    command = [sys.executable, "-c", "from fetchq_worker.cli import main; main()", "worker", "--burst"]
    command += ["--settings", "harness.poisonous_jobs:Settings", "--redis", server.url]
    command += ["--lease", str(LEASE_S), "--concurrency", "1"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=PROJECT, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, env=dict(os.environ)
    )
    try:
        async with asyncio.timeout(60):
            return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _run_workers(server: RedisServer) -> int:
    """Restarts a worker, as a supervisor does, until one empties the queue. Returns how many died before."""
    for deaths in range(20):
        status = await _run_worker(server)
        if status == 0:
            return deaths
        assert status == STATUS
    raise AssertionError("the queue does not go on")


async def test_a_job_that_kills_its_worker_becomes_a_dead_letter_and_the_queue_continues(
    redis_server: RedisServer,
) -> None:
    async with Producer.from_url(redis_server.url) as producer:
        poison = await producer.enqueue_job("poison")
        fetch = await producer.enqueue(FetchRequest(url=POISONOUS_URL, tags=("bad",)))
        harmless = [await producer.enqueue_job("harmless", number) for number in range(20)]

        assert await _run_workers(redis_server) == POISON_TRIES + MAX_CRASHES

        assert [await job.value(timeout_s=0) for job in harmless] == list(range(20))
        with pytest.raises(JobFailed, match=f"max {POISON_TRIES} retries exceeded"):
            await poison.value(timeout_s=0)
        assert (await fetch.result(timeout_s=0)).status is FetchStatus.WORKER_LOST

        dead_letters = {
            dead_letter.id: dead_letter
            async for dead_letter in producer.dead_letters.list(status=FetchStatus.WORKER_LOST)
        }
        assert dead_letters.keys() == {poison.id, fetch.id}
        assert (dead_letters[poison.id].function, dead_letters[poison.id].tries) == ("poison", POISON_TRIES + 1)
        assert dead_letters[fetch.id].tags == ("bad",)
        assert [attempt.status for attempt in dead_letters[fetch.id].result.attempts] == ["WORKER_LOST"] * MAX_CRASHES

        assert await producer.dead_letters.retry_many([poison.id]) == [RetryOutcome.RETRIED]
        assert await _run_workers(redis_server) == POISON_TRIES
        assert {dead_letter.id async for dead_letter in producer.dead_letters.list()} == {poison.id, fetch.id}


@pytest.mark.parametrize("key", [KEY_DEADLY_AT_START, KEY_DEADLY_AT_END], ids=["start", "end"])
async def test_a_fetch_whose_hook_kills_its_worker_becomes_a_dead_letter_and_the_queue_continues(
    redis_server: RedisServer, key: str
) -> None:
    """The fetch cannot count its crashes: a hook kills the worker before it begins or commits."""
    async with Producer.from_url(redis_server.url) as producer:
        fetch = await producer.enqueue(FetchRequest(url="http://127.0.0.1/", key=key))
        harmless = await producer.enqueue_job("harmless", 1)

        assert await _run_workers(redis_server) == MAX_CRASHES

        assert await harmless.value(timeout_s=0) == 1
        result = await fetch.result(timeout_s=0)
        assert result.status is FetchStatus.WORKER_LOST
        dead_letter = await producer.dead_letters.get(fetch.id)
        assert dead_letter is not None
        assert [attempt.status for attempt in dead_letter.result.attempts] == ["WORKER_LOST"] * MAX_CRASHES
