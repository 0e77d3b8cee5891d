"""A worker whose clock is wrong by hours: due times and deadlines follow the clock of Redis."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from unittest.mock import AsyncMock

import pytest
from arq.connections import ArqRedis
from arq.worker import Retry, func
from tests.support.redis_server import RedisServer
from tests.support.running import running
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest, FetchStatus, Producer, RetryPolicy
from fetchq.contract.wire import deserialize, serialize
from fetchq.store.connection import connect
from fetchq_worker.engine import Worker
from fetchq_worker.fetch import Fetcher
from fetchq_worker.fetch.job import clock
from fetchq_worker.politeness.gate import FetchGate
from fetchq_worker.process.arq_settings import fetch_function

pytestmark = pytest.mark.asyncio

SOON_S = 0.3


@pytest.fixture(params=[5, -5], ids=["ahead", "behind"])
def wrong_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> timedelta:
    """The error of the worker's clock. The test and its producer read the time from other functions."""
    wrong_by = timedelta(hours=request.param)
    right = time.time

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + wrong_by

    monkeypatch.setattr(time, "time", lambda: right() + wrong_by.total_seconds())
    monkeypatch.setattr(clock, "time", lambda: right() + wrong_by.total_seconds())
    monkeypatch.setattr(clock, "datetime", Clock)
    return wrong_by


def _worker(server: RedisServer, fetcher: Fetcher, *functions: Any) -> Worker:
    return Worker(
        [fetch_function(), *(func(function) for function in functions)],
        redis_pool=connect(server.url, redis_class=ArqRedis),
        ctx={"fetcher": fetcher},
        gate=FetchGate(),
        handle_signals=False,
        job_serializer=serialize,
        job_deserializer=deserialize,
        lease_s=1.0,
    )


async def test_deadlines_are_compared_with_the_clock_of_redis(
    wrong_by: timedelta, redis_server: RedisServer, fetcher: Fetcher, site: Site
) -> None:
    in_a_minute = datetime.now(UTC) + timedelta(minutes=1)
    retried = site.serve("/retried", http_response(status=503), http_response(b"hello"))
    retry = RetryPolicy(base_s=0.01, cap_s=0.01)
    async with Producer.from_url(redis_server.url) as producer:
        await producer.pause()
        in_time = await producer.enqueue(FetchRequest(url=retried, deadline=in_a_minute, retry=retry))
        soon = datetime.now(UTC) + timedelta(seconds=SOON_S)
        deadline_passed = await producer.enqueue(
            FetchRequest(url=site.serve("/late", http_response(b"")), deadline=soon)
        )
        await asyncio.sleep((soon - datetime.now(UTC)).total_seconds() + 0.1)
        async with running(_worker(redis_server, fetcher)):
            await producer.resume()
            result = await in_time.result(timeout_s=20)
            assert (await deadline_passed.result(timeout_s=20)).status is FetchStatus.EXPIRED
    assert [attempt.http_status for attempt in result.attempts] == [503, 200]
    assert len(site.visits) == 2


async def test_a_job_admitted_without_limit_after_its_deadline_is_not_fetched(
    monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer, fetcher: Fetcher, site: Site
) -> None:
    monkeypatch.setattr(
        Worker, "clock_behind_s", -3600.0
    )  # an exaggerated form of the error after a slow reply to a claim
    async with Producer.from_url(redis_server.url) as producer:
        await producer.pause()
        soon = datetime.now(UTC) + timedelta(seconds=SOON_S)
        deadline_passed = await producer.enqueue(FetchRequest(url=site.serve("/", http_response(b"")), deadline=soon))
        await asyncio.sleep((soon - datetime.now(UTC)).total_seconds() + 0.1)
        async with running(_worker(redis_server, fetcher)):
            await producer.resume()
            assert (await deadline_passed.result(timeout_s=20)).status is FetchStatus.EXPIRED
    assert site.visits == []


async def test_a_fetch_with_a_deadline_makes_no_time_call_to_redis(
    monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer, fetcher: Fetcher, site: Site
) -> None:
    asked = AsyncMock()  # records any call
    monkeypatch.setattr(ArqRedis, "time", asked)
    in_a_minute = datetime.now(UTC) + timedelta(minutes=1)
    request = FetchRequest(url=site.serve("/", http_response(b"hello")), deadline=in_a_minute)
    async with Producer.from_url(redis_server.url) as producer, running(_worker(redis_server, fetcher)):
        assert (await (await producer.enqueue(request)).result(timeout_s=20)).status is FetchStatus.OK
    assert asked.mock_calls == []


async def test_due_times_and_leases_follow_the_clock_of_redis(
    wrong_by: timedelta, redis_server: RedisServer, fetcher: Fetcher
) -> None:
    """A job that is deferred once and runs for longer than the lease, on one of two workers."""
    starts: list[float] = []

    async def work(ctx: dict[str, Any]) -> str:
        starts.append(time.monotonic())
        if ctx["job_try"] == 1:
            raise Retry(defer=SOON_S)
        await asyncio.sleep(1.5)
        return "done"

    async with Producer.from_url(redis_server.url) as producer:
        workers = [_worker(redis_server, fetcher, work) for _ in range(2)]
        async with running(*workers):
            job = await producer.enqueue_job(work.__qualname__)
            assert await job.value(timeout_s=20) == "done"
    assert len(starts) == 2
    assert starts[1] - starts[0] >= SOON_S - 0.01
