"""`fetchq.testing.TestWorker` runs queued jobs as a real worker would, with canned responses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from arq import Retry
from arq.worker import RetryJob, func

from fetchq import (
    CancelOutcome,
    FetchRequest,
    FetchStatus,
    JobFailed,
    JobNotFound,
    JobStatus,
    Producer,
    RetryPolicy,
)
from fetchq.testing import CannedResponse, TestRedis, TestWorker, UnexpectedJob
from fetchq_worker import Snooze

URL = "https://api.example/users"


@pytest.fixture
def worker() -> TestWorker:
    return TestWorker()


@pytest_asyncio.fixture
async def producer(worker: TestWorker) -> AsyncIterator[Producer]:
    async with worker.producer() as producer:
        yield producer


@pytest.mark.asyncio
async def test_a_fetch_gets_its_canned_response(worker: TestWorker, producer: Producer) -> None:
    worker.respond(URL, json=[{"id": 1}], headers={"X-Total": "1"})
    job = await producer.enqueue("HTTPS://api.example/users", headers={"Accept": "application/json"})
    assert await job.status() is JobStatus.QUEUED

    assert await worker.run() == 1

    result = await job.result(timeout_s=0)
    assert result.data == [{"id": 1}]
    assert (result.status, result.http_status, result.media_type) == ("OK", 200, "application/json")
    assert result.headers == (("X-Total", "1"), ("Content-Type", "application/json"))
    assert [attempt.status for attempt in result.attempts] == [FetchStatus.OK]
    assert worker.results == [result]
    assert worker.requests == [FetchRequest(url=URL, headers={"Accept": "application/json"})]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"text": "gr\u00fcn"}, ("OK", 200, "gr\u00fcn")),
        ({"body": b"\x89PNG", "headers": {"Content-Type": "image/png"}}, ("OK", 200, b"\x89PNG")),
        ({"body": b"gr\xfcn", "headers": {"Content-Type": "text/html; charset=latin1"}}, ("OK", 200, "gr\u00fcn")),
        ({"http_status": 404, "json": {"detail": "no"}}, ("HTTP_ERROR", 404, {"detail": "no"})),
        ({"http_status": 301}, ("HTTP_ERROR", 301, b"")),
        ({"status": "TIMEOUT"}, ("TIMEOUT", None, b"")),
        ({"status": FetchStatus.BLOCKED, "error": "10.0.0.1 is private"}, ("BLOCKED", None, b"")),
        ({"text": "x" * 11}, ("TOO_LARGE", None, b"")),
    ],
)
@pytest.mark.asyncio
async def test_responses_of_all_kinds(
    worker: TestWorker, producer: Producer, options: Any, expected: tuple[str, int | None, object]
) -> None:
    worker.respond(URL, **options)
    max_bytes = 10 if expected[0] == "TOO_LARGE" else 1000
    job = await producer.enqueue(URL, retry=RetryPolicy(max_tries=1), max_bytes=max_bytes)
    await worker.run()
    result = await job.result(timeout_s=0)
    assert (result.status, result.http_status, result.data) == expected
    assert bool(result.error) == (not result.ok)


@pytest.mark.asyncio
async def test_a_304_is_not_modified_if_the_request_has_a_validator(worker: TestWorker, producer: Producer) -> None:
    worker.respond(URL, http_status=304)
    jobs = [await producer.enqueue(URL, etag='"a"'), await producer.enqueue(URL)]
    await worker.run()
    assert [(await job.result(timeout_s=0)).status for job in jobs] == ["NOT_MODIFIED", "HTTP_ERROR"]


@pytest.mark.asyncio
async def test_an_exact_url_comes_before_a_prefix_and_a_prefix_before_a_pattern(
    worker: TestWorker, producer: Producer
) -> None:
    worker.respond(re.compile(r"example"), text="pattern")
    worker.respond("https://api.example/*", text="prefix")
    worker.respond("https://api.example/users/*", text="longer prefix")
    worker.respond(URL, text="exact")
    worker.respond(URL, text="exact POST", method="post")
    paths = {"users": "exact", "users/1": "longer prefix", "x": "prefix"}
    jobs = [await producer.enqueue(f"https://api.example/{path}") for path in paths]
    jobs += [await producer.enqueue("https://other.example/"), await producer.enqueue(URL, json={})]
    await worker.run()
    data = [(await job.result(timeout_s=0)).data for job in jobs]
    assert data == [*paths.values(), "pattern", "exact"], "the first one for a URL, unless it names a method"


@pytest.mark.asyncio
async def test_a_function_makes_the_response(worker: TestWorker, producer: Producer) -> None:
    async def slow(request: FetchRequest) -> CannedResponse:
        await asyncio.sleep(0)
        return CannedResponse(text="slow")

    worker.respond("https://a.example/*", lambda request: CannedResponse(text=request.url[-1]))
    worker.respond("https://b.example/*", slow)
    jobs = await producer.enqueue_many(["https://a.example/1", "https://a.example/2", "https://b.example/"])
    await worker.run()
    assert [(await job.result(timeout_s=0)).data for job in jobs] == ["1", "2", "slow"]


@pytest.mark.asyncio
async def test_an_exception_of_a_function_that_makes_responses_fails_the_test(
    worker: TestWorker, producer: Producer
) -> None:
    def check(request: FetchRequest) -> CannedResponse:
        assert request.method == "POST", "only POST is expected"
        return CannedResponse()

    worker.respond(URL, check)
    job = await producer.enqueue(URL)
    with pytest.raises(AssertionError, match="only POST is expected"):
        await worker.run()
    assert (await job.result(timeout_s=0)).status is FetchStatus.INTERNAL_ERROR


@pytest.mark.asyncio
async def test_a_failed_attempt_is_retried_at_once_as_the_request_says(worker: TestWorker, producer: Producer) -> None:
    worker.respond(URL, http_status=503, times=1)
    worker.respond(URL, status="TIMEOUT", times=1)
    worker.respond(URL, text="well")
    job = await producer.enqueue(URL)
    once = await producer.enqueue("https://down.example/", method="POST", retry=RetryPolicy(max_tries=5))
    worker.respond("https://down.example/", status="TIMEOUT")

    assert await worker.run() == 2

    result = await job.result(timeout_s=0)
    assert result.text == "well"
    assert [attempt.status for attempt in result.attempts] == ["HTTP_ERROR", "TIMEOUT", "OK"]
    assert len((await once.result(timeout_s=0)).attempts) == 1, "it is not idempotent and may have been sent"
    assert [request.url for request in worker.requests].count(URL) == 3


@pytest.mark.asyncio
async def test_retries_end_with_max_tries_and_a_dead_letter(worker: TestWorker, producer: Producer) -> None:
    worker.respond(URL, http_status=503)
    job = await producer.enqueue(URL, retry=RetryPolicy(max_tries=2))
    await worker.run()
    assert [attempt.http_status for attempt in (await job.result(timeout_s=0)).attempts] == [503, 503]
    [dead_letter] = [letter async for letter in producer.dead_letters.list()]
    assert (dead_letter.id, dead_letter.status) == (job.id, "HTTP_ERROR")
    worker.responses.clear()
    worker.respond(URL, text="well")
    assert await producer.dead_letters.retry_many([job.id]) == ["retried"]
    await worker.run()
    assert (await job.result(timeout_s=0)).text == "well"


@pytest.mark.asyncio
async def test_a_url_without_a_response_fails_with_the_list_of_those_that_have_one(
    worker: TestWorker, producer: Producer
) -> None:
    worker.respond("https://api.example/*", method="POST")
    worker.respond(re.compile("other"), times=0)
    job = await producer.enqueue(URL)
    with pytest.raises(UnexpectedJob) as raised:
        await worker.run()
    assert str(raised.value) == (
        f"no canned response for GET {URL}. Canned responses: POST https://api.example/*; any method other (used up)"
    )
    result = await job.result(timeout_s=0)
    assert (result.status, result.error) == (FetchStatus.INTERNAL_ERROR, str(raised.value))


@pytest.mark.asyncio
async def test_an_idempotency_key_gives_the_same_job_until_its_result_expires(
    worker: TestWorker, producer: Producer
) -> None:
    worker.respond(URL)
    job = await producer.enqueue(URL, key="k", result_ttl_s=60)
    assert await producer.enqueue(URL, key="k", result_ttl_s=60) == job
    assert await worker.run() == 1
    await producer.enqueue(URL, key="k", result_ttl_s=60)
    assert await worker.run() == 0
    worker.advance(61)
    with pytest.raises(JobNotFound):
        await job.result(timeout_s=0)
    await producer.enqueue(URL, key="k", result_ttl_s=60)
    assert await worker.run() == 1


@pytest.mark.asyncio
async def test_a_deferred_job_runs_once_the_clock_is_moved_there(worker: TestWorker, producer: Producer) -> None:
    worker.respond(URL)
    job = await producer.enqueue(URL, delay_s=3600)
    later = await producer.enqueue(URL, not_before=datetime.now(UTC) + timedelta(hours=3), priority="high")
    assert await worker.run() == 0
    assert await job.status() is JobStatus.DEFERRED
    worker.advance(3601)
    assert await worker.run() == 1
    await producer.enqueue(URL, delay_s=3600)
    assert await worker.run() == 0, "the clock that was moved counts for new jobs too"
    worker.advance(7200)
    assert await worker.run() == 2
    assert (await later.result(timeout_s=0)).ok
    with pytest.raises(ValueError, match="forward only"):
        worker.advance(-1)


@pytest.mark.asyncio
async def test_a_deadline_that_passes_ends_the_job_as_expired(worker: TestWorker, producer: Producer) -> None:
    job = await producer.enqueue(URL, deadline=datetime.now(UTC) + timedelta(minutes=1))
    worker.advance(61)
    assert await worker.run() == 1
    assert (await job.result(timeout_s=0)).status is FetchStatus.EXPIRED
    assert worker.requests == []


@pytest.mark.asyncio
async def test_cancelled_and_paused_jobs_do_not_run(worker: TestWorker, producer: Producer) -> None:
    worker.respond(URL)
    cancelled, other = await producer.enqueue_many([URL, URL])
    assert await cancelled.cancel() is CancelOutcome.CANCELLED
    await producer.pause()
    assert await worker.run() == 0
    await producer.resume()
    assert await worker.run() == 1
    assert (await cancelled.result(timeout_s=0)).status is FetchStatus.CANCELLED
    assert (await other.result(timeout_s=0)).ok


@pytest.mark.asyncio
async def test_limits_hold_as_they_do_for_real_workers(worker: TestWorker, producer: Producer) -> None:
    worker.respond("https://api.example/*")
    await producer.limits.set("api.example", concurrency=1)
    await producer.enqueue_many(URL for _ in range(5))
    assert await worker.run() == 5, "each as the one before ends"
    await producer.limits.set("api.example", rate="1/m", burst=1)
    await producer.enqueue_many(URL for _ in range(2))
    assert await worker.run() < 2
    worker.advance(120)
    await worker.run()
    assert len(worker.results) == 7


@pytest.mark.asyncio
async def test_a_limit_key_of_a_function_holds_too(worker: TestWorker, producer: Producer) -> None:
    running = most = 0

    async def counted(ctx: dict[str, Any]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    worker.add_function(counted, name="counted")
    await producer.limits.set("key:tenant", concurrency=2)
    for _ in range(6):
        await producer.enqueue_job("counted", _limit_key="tenant")
    assert await worker.run() == 6
    assert most == 2


@pytest.mark.asyncio
async def test_functions_run_with_their_context_and_arguments(producer: Producer, worker: TestWorker) -> None:
    async def greet(ctx: dict[str, Any], name: str, *, loud: bool = False) -> str:
        assert ctx["job_try"] == 1
        return f"{ctx['greeting']}, {name}{'!' if loud else ''}"

    async def fails(ctx: dict[str, Any]) -> None:
        raise ValueError("no")

    async def returns_nonsense(ctx: dict[str, Any]) -> object:
        return object()

    async def returns_too_much(ctx: dict[str, Any]) -> int:
        return 1 << 65

    worker.ctx["greeting"] = "hello"
    worker.add_function(greet, name="greet")
    worker.add_function(func(fails, name="fails"))
    worker.add_function(returns_nonsense, name="nonsense")
    worker.add_function(returns_too_much, name="too_much")
    job = await producer.enqueue_job("greet", "world", loud=True)
    failed = await producer.enqueue_job("fails")
    nonsense = await producer.enqueue_job("nonsense")
    too_much = await producer.enqueue_job("too_much")

    assert await worker.run() == 4

    assert await job.value(timeout_s=0) == "hello, world!"
    with pytest.raises(JobFailed, match="ValueError: no"):
        await failed.value(timeout_s=0)
    with pytest.raises(JobFailed, match="cannot be encoded"):
        await nonsense.value(timeout_s=0)
    with pytest.raises(JobFailed, match="OverflowError"):
        await too_much.value(timeout_s=0)
    calls = {call.function: call for call in worker.calls}
    assert (calls["greet"].args, calls["greet"].kwargs, calls["greet"].value) == (
        ("world",),
        {"loud": True},
        "hello, world!",
    )
    assert isinstance(calls["fails"].error, ValueError)


@pytest.mark.asyncio
async def test_a_function_can_ask_for_a_retry(worker: TestWorker, producer: Producer) -> None:
    async def flaky(ctx: dict[str, Any]) -> int:
        if ctx["job_try"] < 3:
            raise Retry(defer=60 * (ctx["job_try"] - 1))
        return int(ctx["job_try"])

    worker.add_function(flaky, name="flaky")
    job = await producer.enqueue_job("flaky")
    assert await worker.run() == 0, "the second retry is a minute away"
    worker.advance(61)
    assert await worker.run() == 1
    assert await job.value(timeout_s=0) == 3


class SoonAgain(Retry):
    """An exception of a user's own."""


@pytest.mark.asyncio
@pytest.mark.parametrize(("again", "last_try"), [(Snooze(60), 1), (SoonAgain(60), 2), (RetryJob(), 2)])
async def test_a_function_is_repeated_as_by_a_real_worker(
    worker: TestWorker, producer: Producer, again: Exception, last_try: int
) -> None:
    raised: list[Exception] = []

    async def later(ctx: dict[str, Any]) -> int:
        if not raised:
            raised.append(again)
            raise again
        return int(ctx["job_try"])

    worker.add_function(later, name="later")
    job = await producer.enqueue_job("later")
    ended = await worker.run()
    assert ended == isinstance(again, RetryJob), "the others are due in a minute"
    worker.advance(61)
    assert ended + await worker.run() == 1
    assert await job.value(timeout_s=0) == last_try


@pytest.mark.asyncio
async def test_a_function_that_is_not_there_is_unexpected(worker: TestWorker, producer: Producer) -> None:
    job = await producer.enqueue_job("missing")
    with pytest.raises(UnexpectedJob, match=r"no function 'missing' for job .*\. Functions of the test worker: none"):
        await worker.run()
    with pytest.raises(JobFailed, match="not found"):
        await job.value(timeout_s=0)


@pytest.mark.asyncio
async def test_a_job_that_cannot_be_read_ends_as_under_a_real_worker(worker: TestWorker, producer: Producer) -> None:
    redis = worker.redis.client()
    await redis.set("arq:job:a", b"\x80\x04garbage")
    await redis.set("arq:job:b", b"\x85\xa1t\xc0\xa1f\xaafetch_data\xa1a\x91\x81\xa3url\xa1x\xa1k\x80\xa2et\x01")
    await redis.zadd("arq:queue", {"a": 1, "b": 2, "c": 3})
    assert await worker.run() == 3
    statuses = [(await producer.job(job_id).result(timeout_s=0)).status for job_id in "abc"]
    assert statuses == [FetchStatus.INVALID_JOB, FetchStatus.INVALID_URL, FetchStatus.INVALID_JOB]
    with pytest.raises(JobFailed, match="a pickle"):
        await producer.job("a").value(timeout_s=0)
    await redis.aclose()


@pytest.mark.asyncio
async def test_in_the_background_code_can_wait_for_its_results(worker: TestWorker, producer: Producer) -> None:
    async def through(ctx: dict[str, Any], url: str) -> Any:
        job = await producer.enqueue(url)
        return (await job.result(timeout_s=20)).data

    worker.add_function(through, name="through")
    worker.respond(URL, json=5)
    async with worker:
        assert (await (await producer.enqueue(URL)).result(timeout_s=20)).data == 5
        job = await producer.enqueue_job("through", URL)
        assert await job.value(timeout_s=20) == 5
        deferred = await producer.enqueue(URL, delay_s=100)
        worker.advance(101)
        assert (await deferred.result(timeout_s=20)).ok


@pytest.mark.asyncio
async def test_in_the_background_an_unexpected_url_is_raised_at_the_end_and_hides_no_failure_of_the_test(
    worker: TestWorker, producer: Producer
) -> None:
    with pytest.raises(UnexpectedJob, match="no canned response"):
        async with worker:
            result = await (await producer.enqueue(URL)).result(timeout_s=20)
            assert result.status is FetchStatus.INTERNAL_ERROR
    with pytest.raises(ZeroDivisionError):
        async with worker:
            await (await producer.enqueue(URL)).result(timeout_s=20)
            raise ZeroDivisionError


@pytest.mark.asyncio
async def test_workers_of_two_queues_share_a_redis_and_run_their_own_jobs_only() -> None:
    redis = TestRedis()
    ours, theirs = TestWorker(redis), TestWorker(redis, queue="other", namespace="{x}:")
    ours.respond("*", text="ours")
    theirs.respond("*", text="theirs")
    async with ours.producer() as one, theirs.producer() as other:
        job, their_job = await one.enqueue(URL), await other.enqueue(URL)
        assert await ours.run() == await theirs.run() == 1
        assert (await job.result(timeout_s=0)).text == "ours"
        assert (await their_job.result(timeout_s=0)).text == "theirs"
