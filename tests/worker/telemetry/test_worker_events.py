"""The events that a worker publishes, as a subscriber of a user gets them."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar
from typing import Any, TypeVar

import msgspec
import pytest
from arq.connections import ArqRedis
from arq.worker import Retry, func
from tests.support.redis_server import RedisServer
from tests.support.running import running, wait_until
from tests.support.web.site import Site, http_response
from tests.worker.engine.conftest import MakeWorker

from fetchq import FetchRequest, FetchStatus, Producer, RetryPolicy
from fetchq.store.connection import connect
from fetchq_worker import Snooze, Worker, create_worker, worker_settings
from fetchq_worker.fetch import fetch
from fetchq_worker.settings import Settings
from fetchq_worker.telemetry.events import (
    AnyEvent,
    AttemptEnded,
    Event,
    FetchEnded,
    HostCooledDown,
    JobEnd,
    JobEnded,
    JobRequeued,
    JobRetried,
    JobSnoozed,
    JobStarted,
    LeaseLost,
    RedisAvailable,
    RedisUnavailable,
    RequeueReason,
    WorkerStarted,
    WorkerStopped,
)
from fetchq_worker.telemetry.publisher import Publisher

pytestmark = pytest.mark.asyncio

E = TypeVar("E", bound=Event)


def of(kind: type[E], events: list[AnyEvent]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture
def events() -> list[AnyEvent]:
    return []


async def _drain(worker: Worker) -> None:
    await worker.async_run()
    await worker.close()


async def test_a_job_that_succeeds_has_a_start_and_an_end(
    redis: ArqRedis, make_worker: MakeWorker, events: list[AnyEvent]
) -> None:
    async def work(ctx: dict[str, Any]) -> int:
        await asyncio.sleep(0.02)
        return 1

    await redis.enqueue_job("work", _job_id="a", _defer_by=-1)
    worker = make_worker([func(work, name="work")], burst=True, subscribers=[events.append])
    await _drain(worker)
    assert [type(event) for event in events] == [WorkerStarted, JobStarted, JobEnded, WorkerStopped]
    assert (of(WorkerStopped, events)[0].complete, of(WorkerStopped, events)[0].failed) == (1, 0)
    start, end = of(JobStarted, events)[0], of(JobEnded, events)[0]
    assert (start.job_id, start.function, start.tries, start.limit_key, start.lane) == ("a", "work", 1, "", "default")
    assert start.wait_s >= 1.0
    assert start.enqueued_at <= start.started_at == end.started_at
    assert (end.end, end.status, end.error, end.exception, end.ran) == (JobEnd.OK, "", "", None, True)
    assert end.run_s >= 0.02
    assert not end.dead_letter


async def test_a_job_that_raises_ends_as_failed_with_its_exception(
    redis: ArqRedis, make_worker: MakeWorker, events: list[AnyEvent]
) -> None:
    async def work(ctx: dict[str, Any]) -> None:
        raise LookupError("no https://user:secret@a.example/x?token=1 here")

    await redis.enqueue_job("work", _job_id="a")
    await _drain(make_worker([func(work, name="work")], burst=True, dead_letter_max=9, subscribers=[events.append]))
    [end] = of(JobEnded, events)
    assert (end.end, end.status, end.attempts) == (JobEnd.FAILED, "LookupError", 1)
    assert (end.dead_letter, end.ran) == (True, True)
    assert end.error == "no https://...@a.example/x?... here"
    assert isinstance(end.exception, LookupError)


async def test_a_job_that_cannot_be_run_ends_without_a_start(
    redis: ArqRedis, make_worker: MakeWorker, events: list[AnyEvent]
) -> None:
    await redis.enqueue_job("f" * 5000, _job_id="a")

    async def work(ctx: dict[str, Any]) -> None:
        """Never called."""

    await _drain(make_worker([func(work, name="work")], burst=True, subscribers=[events.append]))
    assert of(JobStarted, events) == []
    [end] = of(JobEnded, events)
    assert (end.end, end.status, end.function, end.ran) == (JobEnd.FAILED, "INVALID_JOB", "f" * 200, False)


async def test_a_retry_and_a_snooze_are_told_apart(
    redis: ArqRedis, make_worker: MakeWorker, events: list[AnyEvent]
) -> None:
    raised: list[BaseException] = [Retry(defer=0.01), Snooze(0.01, "the disk is full")]

    async def work(ctx: dict[str, Any]) -> None:
        if raised:
            raise raised.pop(0)

    await redis.enqueue_job("work", _job_id="a")
    await _drain(make_worker([func(work, name="work")], burst=True, subscribers=[events.append]))
    starts = [event.tries for event in of(JobStarted, events)]
    [retried], [snoozed], [end] = of(JobRetried, events), of(JobSnoozed, events), of(JobEnded, events)
    assert starts == [1, 2, 2]
    assert (retried.tries, retried.delay_s, type(retried.exception)) == (1, 0.01, Retry)
    assert (snoozed.tries, snoozed.delay_s, snoozed.why, snoozed.is_routine) == (2, 0.01, "the disk is full", False)
    assert (end.end, end.tries) == (JobEnd.OK, 2)


async def test_a_cancelled_job_ends_as_cancelled_and_that_of_a_stopping_worker_is_requeued(
    redis: ArqRedis, make_worker: MakeWorker, events: list[AnyEvent]
) -> None:
    started = asyncio.Semaphore(0)

    async def work(ctx: dict[str, Any]) -> None:
        started.release()
        await asyncio.Event().wait()

    cancelled = await redis.enqueue_job("work", _job_id="a")
    await redis.enqueue_job("work", _job_id="b")
    worker = make_worker([func(work, name="work")], allow_abort_jobs=True, subscribers=[events.append])
    assert cancelled is not None
    async with running(worker):
        for _ in range(2):
            await started.acquire()
        assert await cancelled.abort(timeout=10)
    [end] = of(JobEnded, events)
    assert (end.job_id, end.end) == ("a", JobEnd.CANCELLED)
    [requeued] = of(JobRequeued, events)
    assert (requeued.job_id, requeued.function, requeued.reason) == ("b", "work", RequeueReason.SHUTDOWN)


async def test_a_lost_lease_is_told_and_logged_once(
    redis: ArqRedis, make_worker: MakeWorker, events: list[AnyEvent], caplog: pytest.LogCaptureFixture
) -> None:
    started = asyncio.Event()

    async def work(ctx: dict[str, Any]) -> None:
        started.set()
        await asyncio.Event().wait()

    await redis.enqueue_job("work", _job_id="a")
    worker = make_worker([func(work, name="work")], lease_s=0.6, renew_s=0.1, subscribers=[events.append])
    async with running(worker):
        await started.wait()
        async with redis.pipeline() as pipe:
            pipe.hset("fetchq:leases:arq:queue", "a", "another.1|99999999999999|0")
            await pipe.execute()
        await wait_until(lambda: bool(of(LeaseLost, events)))
    [lost] = of(LeaseLost, events)
    assert lost.job_id == "a"
    assert sum("lease.lost" in line for line in caplog.messages) == 1


async def test_an_outage_is_told_and_so_is_its_end(
    own_redis_server: RedisServer, events: list[AnyEvent], caplog: pytest.LogCaptureFixture
) -> None:
    redis = connect(own_redis_server.url, redis_class=ArqRedis)
    worker = Worker([func(asyncio.sleep, name="work")], redis_pool=redis, handle_signals=False, poll_delay=0.02)  # type: ignore[arg-type]
    worker.telemetry.events.subscribe(events.append)
    async with running(worker):
        await wait_until(lambda: worker.started)
        own_redis_server.stop()
        await wait_until(lambda: bool(of(RedisUnavailable, events)))
        own_redis_server.start()
        await wait_until(lambda: bool(of(RedisAvailable, events)))
    outage = of(RedisUnavailable, events)[0]  # a server that loads its data is another one
    assert not outage.refused
    assert f"redis.unavailable error={outage.error}" in caplog.messages
    assert len(of(RedisAvailable, events)) == 1


async def test_a_subscriber_can_set_context_variables_for_the_job(redis: ArqRedis, make_worker: MakeWorker) -> None:
    current: ContextVar[str] = ContextVar("current", default="")
    seen: dict[str, str] = {}

    def subscribe(event: AnyEvent) -> None:
        if isinstance(event, JobStarted):
            current.set(event.job_id)

    async def work(ctx: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        seen[ctx["job_id"]] = current.get()

    for job_id in ("a", "b"):
        await redis.enqueue_job("work", _job_id=job_id)
    await _drain(make_worker([func(work, name="work")], burst=True, subscribers=[subscribe]))
    assert seen == {"a": "a", "b": "b"}


async def test_a_subscriber_that_raises_changes_no_outcome(redis: ArqRedis, make_worker: MakeWorker) -> None:
    def refuse(event: AnyEvent) -> None:
        raise SystemExit(1)

    async def work(ctx: dict[str, Any]) -> int:
        return 7

    job = await redis.enqueue_job("work", _job_id="a")
    worker = make_worker([func(work, name="work")], burst=True, subscribers=[refuse])
    await _drain(worker)
    assert job is not None
    assert await job.result(timeout=5) == 7
    assert worker.jobs_complete == 1


async def test_no_event_is_made_of_a_job_or_attempt_that_succeeds_without_a_subscriber(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, redis_server: RedisServer, site: Site
) -> None:
    published: list[AnyEvent] = []
    monkeypatch.setattr(Publisher, "publish", lambda self, event: published.append(event))
    caplog.set_level(logging.INFO, "fetchq.fetch")  # as `fetchq worker` has it
    async with Producer.from_url(redis_server.url) as producer:
        job = await producer.enqueue(site.serve("/", http_response(b"hello")))
        worker = _fetching(redis_server)
        worker.logs_events = True
        await _drain(worker)
        assert (await job.result(timeout_s=5)).ok
    assert [type(event) for event in published] == [WorkerStarted, WorkerStopped]


# Fetches


def _fetching(server: RedisServer, *subscribers: Any, functions: tuple[Any, ...] = ()) -> Worker:
    settings = Settings(redis_url=server.url, allow_net=("127.0.0.0/8",))
    described = worker_settings(functions, settings=settings, subscribers=subscribers)
    redis = connect(server.url, redis_class=ArqRedis)
    return create_worker(described, redis_pool=redis, burst=True, handle_signals=False, poll_delay=0.05)


async def test_a_fetch_has_an_event_for_each_attempt_and_one_for_its_result(
    redis_server: RedisServer, site: Site, events: list[AnyEvent]
) -> None:
    url = site.serve("/x", http_response(status=500), http_response(b"hello"))
    retry = RetryPolicy(base_s=0.01, cap_s=0.01)
    async with Producer.from_url(redis_server.url) as producer:
        request = FetchRequest(url=f"{url}?secret=1#part", retry=retry, tags=("invoice",), priority="high")
        job = await producer.enqueue(request)
        await _drain(_fetching(redis_server, events.append))
        result = await job.result(timeout_s=5)
    first, second = of(AttemptEnded, events)
    assert (first.number, first.attempt.http_status, first.attempt.status) == (1, 500, FetchStatus.HTTP_ERROR)
    assert first.retry_in_s is not None
    assert (second.number, second.attempt, second.retry_in_s) == (2, result.attempts[1], None)
    assert (second.job_id, second.method, second.host) == (job.id, "GET", "127.0.0.1")
    assert second.url == second.final_url == f"{url}?..."
    assert (second.tags, second.body_size, second.reused, second.from_cache) == (("invoice",), 5, True, False)
    assert second.timing.first_byte_s is not None
    [ended] = of(FetchEnded, events)
    assert (ended.status, ended.http_status, ended.attempts, ended.error) == (FetchStatus.OK, 200, 2, "")
    [end] = of(JobEnded, events)
    assert (end.end, end.status, end.tries, end.limit_key, end.url) == (JobEnd.OK, "OK", 2, "127.0.0.1", "")
    assert {event.lane for event in of(JobStarted, events)} == {"high"}


async def test_a_fetch_that_fails_for_good_says_why_without_its_query(
    redis_server: RedisServer, site: Site, events: list[AnyEvent]
) -> None:
    url = site.serve("/x", http_response(status=404))
    async with Producer.from_url(redis_server.url) as producer:
        await producer.enqueue(f"{url}?secret=1")
        await _drain(_fetching(redis_server, events.append))
    [end] = of(JobEnded, events)
    assert (end.end, end.status, end.attempts, end.url) == (JobEnd.FAILED, "HTTP_ERROR", 1, f"{url}?...")
    assert end.error == "the server responded 404 Not Found"
    assert end.exception is None
    assert b"secret" not in msgspec.json.encode([event for event in events if not isinstance(event, WorkerStarted)])


async def test_a_fetch_that_ends_without_an_attempt_has_a_result_all_the_same(
    redis_server: RedisServer, events: list[AnyEvent]
) -> None:
    redis = connect(redis_server.url, redis_class=ArqRedis)
    worker = _fetching(redis_server, events.append)
    redis.job_serializer = worker.job_serializer
    await redis.enqueue_job("fetch_data", {"url": "gopher://a.example/?secret"}, _job_id="a")
    await _drain(worker)
    await redis.aclose()
    assert of(AttemptEnded, events) == []
    [ended] = of(FetchEnded, events)
    assert (ended.status, ended.attempts, ended.total_s, ended.host) == (FetchStatus.INVALID_URL, 0, None, "")
    assert "secret" not in ended.url


async def test_a_fetch_that_a_coroutine_awaits_is_told_too(
    redis_server: RedisServer, site: Site, events: list[AnyEvent]
) -> None:
    url = site.serve("/", http_response(b"hello"))

    async def look(ctx: dict[str, Any]) -> None:
        await fetch(ctx, {"url": url})

    async with Producer.from_url(redis_server.url) as producer:
        await producer.enqueue_job("look")
        await _drain(_fetching(redis_server, events.append, functions=(func(look, name="look"),)))
    assert [(event.job_id, event.url) for event in of(FetchEnded, events)] == [("", url)]
    assert len(of(AttemptEnded, events)) == 1
    assert [(event.function, event.status) for event in of(JobEnded, events)] == [("look", "")]


async def test_a_host_that_asks_for_a_pause_is_told_once_with_its_time(
    redis_server: RedisServer, site: Site, events: list[AnyEvent], caplog: pytest.LogCaptureFixture
) -> None:
    url = site.serve("/", http_response(status=503, headers={"Retry-After": "30"}))
    async with Producer.from_url(redis_server.url) as producer:
        await producer.enqueue(FetchRequest(url=url, retry=RetryPolicy(max_tries=1)))
        await _drain(_fetching(redis_server, events.append))
    [cooled] = of(HostCooledDown, events)
    assert (cooled.limit_key, cooled.asked, cooled.began) == ("127.0.0.1", True, True)
    assert 29 < cooled.for_s <= 30
    assert [line for line in caplog.messages if line.startswith("host.cooldown ")] == [
        f"host.cooldown host=127.0.0.1 for_s={cooled.for_s:.1f} asked=True"
    ]
