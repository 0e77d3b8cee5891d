"""Fetch jobs whose run was cut off because their worker stopped or was killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest
from arq.connections import ArqRedis
from tests.support.redis_server import RedisServer
from tests.support.running import running, wait_until
from tests.support.web.site import Site, Visit, http_response

from fetchq import Attempt, FetchRequest, FetchResult, FetchStatus, Producer, RetryPolicy
from fetchq.contract.wire import deserialize, serialize
from fetchq.store.connection import connect
from fetchq_worker.engine import Worker
from fetchq_worker.fetch import Fetcher
from fetchq_worker.fetch.job.crashes import MAX_CRASHES
from fetchq_worker.fetch.job.history import AttemptHistory, save_history
from fetchq_worker.process.arq_settings import fetch_function
from fetchq_worker.process.embedded import EmbeddedRedis

pytestmark = pytest.mark.asyncio

LEASE_S = 1.0


NewClient = Callable[[], ArqRedis]


@pytest.fixture(params=["embedded", "real"])
def new_client(request: pytest.FixtureRequest) -> NewClient:
    """Makes clients, of the embedded Redis and of a real one."""
    if request.param == "embedded":
        embedded: EmbeddedRedis = request.getfixturevalue("embedded")
        return embedded.client
    server: RedisServer = request.getfixturevalue("redis_server")
    return lambda: connect(server.url, redis_class=ArqRedis)


class Stalling:
    """Never responds to the first request, and with "hello" to those after it."""

    def __init__(self, site: Site) -> None:
        self.arrived = asyncio.Event()
        self.url = site.serve("/", self._stall, http_response(b"hello"))

    async def _stall(self, visit: Visit) -> None:
        self.arrived.set()
        await asyncio.Event().wait()


def _worker(redis: ArqRedis, fetcher: Fetcher, **hooks: Any) -> Worker:
    """A worker with its own client, which it closes."""
    return Worker(
        [fetch_function()],
        redis_pool=redis,
        ctx={"fetcher": fetcher},
        handle_signals=False,
        poll_delay=0.05,
        job_serializer=serialize,
        job_deserializer=deserialize,
        **hooks,
    )


async def _after_a_stop(
    new_client: NewClient, fetcher: Fetcher, stalling: Stalling, request: FetchRequest
) -> FetchResult:
    redis = new_client()
    async with Producer(redis) as producer, asyncio.timeout(20):
        job = await producer.enqueue(request)
        async with running(_worker(new_client(), fetcher)):
            await stalling.arrived.wait()
        async with running(_worker(new_client(), fetcher)):
            result = await job.result(timeout_s=10)
        assert await redis.keys("fetchq:attempts:*") == []
    await redis.aclose()
    return result


async def test_a_post_cut_off_by_a_stopping_worker_ends_as_worker_lost(
    new_client: NewClient, fetcher: Fetcher, site: Site
) -> None:
    stalling = Stalling(site)

    request = FetchRequest(url=stalling.url, method="POST", body=b"x")

    result = await _after_a_stop(new_client, fetcher, stalling, request)

    assert result.status is FetchStatus.WORKER_LOST
    assert [attempt.status for attempt in result.attempts] == [FetchStatus.WORKER_LOST]
    assert len(site.visits) == 1


async def test_a_get_cut_off_by_a_stopping_worker_is_sent_again_and_its_try_is_not_counted(
    new_client: NewClient, fetcher: Fetcher, site: Site
) -> None:
    stalling = Stalling(site)

    result = await _after_a_stop(new_client, fetcher, stalling, FetchRequest(url=stalling.url))

    assert (result.status, result.body) == (FetchStatus.OK, b"hello")
    assert [attempt.status for attempt in result.attempts] == [FetchStatus.OK]


async def _killed_worker(server: RedisServer, stalling: Stalling) -> None:
    """Starts `fetchq worker`, and kills it when its request has arrived."""
    command = [sys.executable, "-c", "from fetchq_worker.cli import main; main()", "worker", "--redis", server.url]
    command += ["--allow-net", "127.0.0.0/8", "--lease", str(LEASE_S)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            async with asyncio.timeout(20):
                await stalling.arrived.wait()
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("method", "statuses"), [("GET", ["WORKER_LOST", "OK"]), ("POST", ["WORKER_LOST"])], ids=["GET", "POST"]
)
async def test_the_result_of_a_fetch_whose_worker_was_killed_lists_the_lost_attempt(
    redis_server: RedisServer, fetcher: Fetcher, site: Site, method: str, statuses: list[str]
) -> None:
    stalling = Stalling(site)
    client = connect(redis_server.url, redis_class=ArqRedis)

    async with Producer(client) as producer, asyncio.timeout(30):
        job = await producer.enqueue(FetchRequest(url=stalling.url, method=method))
        await _killed_worker(redis_server, stalling)
        async with running(_worker(connect(redis_server.url, redis_class=ArqRedis), fetcher)):
            result = await job.result(timeout_s=20)
    await client.aclose()

    assert result.status == statuses[-1]
    assert [attempt.status for attempt in result.attempts] == statuses
    assert len(site.visits) == len(statuses)


async def test_failed_attempts_are_not_counted_as_crashes(new_client: NewClient, fetcher: Fetcher, site: Site) -> None:
    started: list[int] = []

    async def on_job_start(ctx: dict[str, Any]) -> None:
        started.append(ctx["job_try"])

    failures = MAX_CRASHES + 2
    url = site.serve("/", *[http_response(status=503)] * failures, http_response(b"at last"))
    retry = RetryPolicy(max_tries=failures + 1, base_s=0.001, cap_s=0.001)
    redis = new_client()
    worker = _worker(new_client(), fetcher, on_job_start=on_job_start)
    async with Producer(redis) as producer, running(worker):
        result = await (await producer.enqueue(FetchRequest(url=url, retry=retry))).result(timeout_s=20)
    await redis.aclose()
    assert [attempt.http_status for attempt in result.attempts] == [503] * failures + [200]
    assert started == [*range(1, failures + 2)]


async def test_an_often_lost_job_of_a_newer_version_is_snoozed_before_any_hook_and_uncounted(
    new_client: NewClient, fetcher: Fetcher
) -> None:
    hooks = AsyncMock()  # a user's coroutines
    redis = new_client()
    worker = _worker(new_client(), fetcher, on_job_start=hooks, on_job_end=hooks, after_job_end=hooks)
    async with Producer(redis) as producer:
        keys = producer.keys
        job = await producer.enqueue_job("fetch_data", {"url": "http://a.test/", "v": 2})
        await redis.set(keys.retry + job.id, MAX_CRASHES)
        async with running(worker):
            await wait_until(lambda: worker.jobs_retried == 1)
        assert await redis.get(keys.retry + job.id) == str(MAX_CRASHES).encode()
        assert await redis.exists(keys.job + job.id, keys.result + job.id) == 1
    await redis.aclose()
    assert hooks.mock_calls == []


@pytest.mark.parametrize("starts", [2, MAX_CRASHES + 2])
async def test_a_fetch_past_its_deadline_calls_its_hooks_at_any_start(
    new_client: NewClient, fetcher: Fetcher, starts: int
) -> None:
    started, ended = AsyncMock(), AsyncMock()  # a user's coroutines
    redis = new_client()
    worker = _worker(new_client(), fetcher, on_job_start=started, on_job_end=ended)
    worker.ctx["outcomes"] = Counter()
    soon = datetime.now(UTC) + timedelta(seconds=0.1)
    failed = Attempt(started_at=soon, status=FetchStatus.HTTP_ERROR, http_status=503)
    async with Producer(redis) as producer, asyncio.timeout(20):
        job = await producer.enqueue(FetchRequest(url="http://a.test/", deadline=soon))
        await redis.set(producer.keys.retry + job.id, starts - 1)
        record = AttemptHistory(attempts=(failed,) * (starts - 1))
        await save_history(redis, producer.keys.attempts + job.id, record)
        await asyncio.sleep(0.2)  # until the deadline has passed
        async with running(worker):
            result = await job.result(timeout_s=10)
    await redis.aclose()
    assert result.http_status == 503
    assert len(result.attempts) == starts - 1
    assert (started.await_count, ended.await_count) == (1, 1)
    assert worker.ctx["outcomes"] == {result.status: 1}
