"""The spans of a worker: `process` for each attempt of a job, `GET` for the request of a fetch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from arq import Retry
from arq.connections import ArqRedis
from arq.worker import func
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from tests.support.running import running
from tests.support.spans import Spans, attributes_of, context_of, recorded_spans
from tests.support.web.site import Site, http_response

from fetchq import FetchStatus, JobFailed, Producer, RetryPolicy
from fetchq.contract import wire
from fetchq.telemetry.trace_context import TraceContext
from fetchq.telemetry.traces import FailuresLogged
from fetchq_worker.engine import Worker
from fetchq_worker.fetch import fetch
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.embedded import EmbeddedRedis
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.settings import Settings

SOON_S = 20
SENDER = TraceContext(0xABC, 0xDEF, 1, "vendor=x")
UNSAMPLED = TraceContext(0xABC, 0xDEF, 0)

pytestmark = pytest.mark.asyncio


@pytest.fixture
def spans() -> Iterator[Spans]:
    with recorded_spans() as spans:
        yield spans


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    await site.start()
    yield site
    await site.stop()


@pytest_asyncio.fixture
async def redis(embedded: EmbeddedRedis) -> AsyncIterator[ArqRedis]:
    client = embedded.client()
    yield client
    await client.aclose()


@contextlib.asynccontextmanager
async def working(embedded: EmbeddedRedis, *functions: Any, **given: Any) -> AsyncIterator[Worker]:
    options = {name: given.pop(name) for name in ("on_startup", "max_tries", "on_job_end") if name in given}
    settings = Settings(allow_net=("127.0.0.0/8",), cooldown_s=0, circuit_breaker=False, **given)
    described = worker_settings(functions, settings=settings, redis_pool=None, **options)
    worker = make_worker(described, embedded.client(), handle_signals=False, job_completion_wait=0, poll_delay=0.05)
    async with running(worker):
        yield worker


async def run_job(
    embedded: EmbeddedRedis, producer: Producer, function: Callable[..., Any], *arguments: Any, **options: Any
) -> Any:
    """Runs a job of an own coroutine and returns its value, or the exception that reading it raises."""
    timeout_s = options.pop("timeout_s", None)
    async with working(embedded, func(function, name=function.__name__, timeout=timeout_s), **options):
        job = await producer.enqueue_job(function.__name__, *arguments)
        try:
            return await job.value(timeout_s=SOON_S)
        except JobFailed as problem:
            return problem


async def put(redis: ArqRedis, job_id: str, function: str, *arguments: Any, **fields: Any) -> None:
    """Enqueues a job by the contract alone."""
    payload = wire.serialize({"t": None, "f": function, "a": arguments, "k": {}, "et": 1_700_000_000_000, **fields})
    await redis.set(f"arq:job:{job_id}", payload)
    await redis.zadd("arq:queue", {job_id: 1_700_000_000_000})


def links_of(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


async def test_an_attempt_of_a_fetch_has_a_span_linked_to_its_senders_and_one_of_its_request(
    spans: Spans, embedded: EmbeddedRedis, producer: Producer, site: Site
) -> None:
    url = site.serve("/page", http_response(b"hello"))
    async with working(embedded):
        job = await producer.enqueue(f"{url}?token=secret", tags=["t"])
        result = await job.result(timeout_s=SOON_S)
    send, process, get = spans.one("send"), spans.one("process"), spans.one("GET")
    assert (process.name, process.kind, process.parent) == ("process arq:queue", SpanKind.CONSUMER, None)
    assert links_of(process) == [(context_of(send).trace_id, context_of(send).span_id)]
    attributes = attributes_of(process)
    assert attributes.pop("fetchq.wait_s") >= 0
    assert {name: value for name, value in attributes.items() if not name.startswith("server.")} == {
        "messaging.system": "fetchq",
        "messaging.destination.name": "arq:queue",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.message.id": job.id,
        "fetchq.function": "fetch_data",
        "fetchq.try": 1,
        "fetchq.attempt": 1,
    }
    assert (get.kind, get.parent, get.status.status_code) == (SpanKind.CLIENT, context_of(process), StatusCode.UNSET)
    attributes = attributes_of(get)
    assert {name: value for name, value in attributes.items() if not name.startswith("fetchq.")} == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": site.port,
        "url.full": f"{url}?...",
    }
    assert {"fetchq.connect_s", "fetchq.first_byte_s"} <= attributes.keys()
    began_ns = round(result.attempts[0].started_at.timestamp() * 1e6) * 1000
    assert get.start_time == began_ns
    assert get.end_time == began_ns + round(result.attempts[0].duration_s * 1e9)
    assert process.start_time is not None
    assert process.end_time is not None
    assert process.start_time <= began_ns + 1_000_000
    assert process.end_time >= get.end_time - 1_000_000


async def test_each_attempt_has_its_spans_with_the_outcome(
    spans: Spans, embedded: EmbeddedRedis, producer: Producer, site: Site
) -> None:
    url = site.serve("/flaky", http_response(status=503), http_response(b"well"))
    async with working(embedded):
        job = await producer.enqueue(url, retry=RetryPolicy(base_s=0.01, cap_s=0.01))
        assert (await job.result(timeout_s=SOON_S)).ok
    first, second = spans.named("process")
    assert links_of(first) == links_of(second) == [(s.trace_id, s.span_id) for s in [context_of(spans.one("send"))]]
    assert (first.status.status_code, attributes_of(first)["error.type"]) == (StatusCode.ERROR, "HTTP_ERROR")
    assert attributes_of(first)["fetchq.retry_in_s"] >= 0
    assert (second.status.status_code, attributes_of(second)["fetchq.attempt"]) == (StatusCode.UNSET, 2)
    failed, well = spans.named("GET")
    assert attributes_of(failed).items() >= {"error.type": "HTTP_ERROR", "http.response.status_code": 503}.items()
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.status.description is None  # the code tells it
    assert "http.request.resend_count" not in attributes_of(failed)
    assert attributes_of(well)["http.request.resend_count"] == 1
    assert (failed.parent, well.parent) == (context_of(first), context_of(second))


async def test_an_attempt_without_a_response_tells_its_outcome(
    spans: Spans, embedded: EmbeddedRedis, producer: Producer
) -> None:
    async with working(embedded):
        job = await producer.enqueue("http://10.0.0.1:8080/")
        result = await job.result(timeout_s=SOON_S)
    assert result.status is FetchStatus.BLOCKED
    get = spans.one("GET")
    assert attributes_of(get)["error.type"] == attributes_of(spans.one("process"))["error.type"] == "BLOCKED"
    assert get.status.description == result.error
    assert "http.response.status_code" not in attributes_of(get)


async def test_a_method_that_the_conventions_do_not_know_is_other(
    spans: Spans, embedded: EmbeddedRedis, producer: Producer, site: Site
) -> None:
    async with working(embedded):
        job = await producer.enqueue(site.serve("/", http_response()), method="PURGE")
        await job.result(timeout_s=SOON_S)
    attributes = attributes_of(spans.one("HTTP"))
    assert (attributes["http.request.method"], attributes["http.request.method_original"]) == ("_OTHER", "PURGE")


async def test_a_redirect_is_counted_and_the_span_has_the_url_that_was_requested(
    spans: Spans, embedded: EmbeddedRedis, producer: Producer, site: Site
) -> None:
    site.serve("/new", http_response(b"here"))
    url = site.serve("/old", http_response(status=301, headers={"Location": "/new"}))
    async with working(embedded):
        await (await producer.enqueue(url)).result(timeout_s=SOON_S)
    assert attributes_of(spans.one("GET")).items() >= {"url.full": url, "fetchq.redirects": 1}.items()


async def test_a_job_that_ends_without_an_attempt_has_a_span_of_its_outcome(
    spans: Spans, embedded: EmbeddedRedis, redis: ArqRedis, producer: Producer
) -> None:
    async with working(embedded):
        await put(redis, "j", "fetch_data", {"url": "ftp://example.org/"}, **SENDER.carrier())
        assert (await producer.job("j").result(timeout_s=SOON_S)).status is FetchStatus.INVALID_URL
    assert attributes_of(spans.one("process"))["error.type"] == "INVALID_URL"
    assert spans.named("GET") == []


async def test_the_span_of_an_attempt_can_be_its_senders_child(
    spans: Spans, embedded: EmbeddedRedis, redis: ArqRedis, producer: Producer
) -> None:
    async def plain(ctx: Any) -> None: ...

    async with working(embedded, func(plain, name="plain"), trace_parent="child"):
        await put(redis, "j", "plain", **SENDER.carrier())
        await producer.job("j").value(timeout_s=SOON_S)
    process = spans.one("process")
    assert process.parent is not None
    assert (process.parent.trace_id, process.parent.span_id, process.parent.is_remote) == (0xABC, 0xDEF, True)
    assert context_of(process).trace_id == 0xABC
    assert context_of(process).trace_state.to_header() == "vendor=x"
    assert links_of(process) == []


async def test_spans_of_an_own_coroutine_are_within_that_of_its_job(
    spans: Spans, embedded: EmbeddedRedis, producer: Producer, site: Site
) -> None:
    url = site.serve("/inner", http_response(b"inner"))

    async def crawl(ctx: dict[str, Any]) -> bool:
        with spans.tracer.start_as_current_span("mine"):
            return (await fetch(ctx, {"url": url})).ok

    assert await run_job(embedded, producer, crawl) is True
    process, mine, get = spans.one("process"), spans.one("mine"), spans.one("GET")
    assert (mine.parent, get.parent) == (context_of(process), context_of(mine))
    assert attributes_of(process)["fetchq.function"] == "crawl"
    assert "fetchq.attempt" not in attributes_of(process)


async def test_a_failed_fetch_within_an_own_coroutine_is_not_its_failure(
    spans: Spans, embedded: EmbeddedRedis, producer: Producer
) -> None:
    async def crawl(ctx: dict[str, Any]) -> str:
        return (await fetch(ctx, {"url": "http://10.0.0.1/"})).status

    assert await run_job(embedded, producer, crawl) == "BLOCKED"
    assert spans.one("GET").status.status_code is StatusCode.ERROR
    assert spans.one("process").status.status_code is StatusCode.UNSET


async def test_an_exception_of_an_own_coroutine_is_recorded(
    spans: Spans, embedded: EmbeddedRedis, producer: Producer
) -> None:
    async def boom(ctx: Any) -> None:
        raise ValueError("no such thing")

    await run_job(embedded, producer, boom)
    process = spans.one("process")
    assert (process.status.status_code, process.status.description) == (StatusCode.ERROR, "no such thing")
    assert attributes_of(process)["error.type"] == "ValueError"
    [event] = process.events
    assert event.name == "exception"
    assert "test_traces.py" in str((event.attributes or {})["exception.stacktrace"])


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


async def test_an_exception_that_cannot_be_shown_costs_neither_span_nor_result(
    spans: Spans, embedded: EmbeddedRedis, producer: Producer
) -> None:
    async def boom(ctx: Any) -> None:
        raise Unspeakable

    failure = await run_job(embedded, producer, boom)
    assert failure.type == "Unspeakable"
    assert attributes_of(spans.one("process"))["error.type"] == "Unspeakable"


async def test_a_retry_is_no_error_and_tells_when_the_next_try_comes(
    spans: Spans, embedded: EmbeddedRedis, producer: Producer
) -> None:
    async def again(ctx: dict[str, Any]) -> int:
        if ctx["job_try"] == 1:
            raise Retry(defer=0.01)
        return int(ctx["job_try"])

    assert await run_job(embedded, producer, again) == 2
    first, second = spans.named("process")
    assert first.status.status_code is StatusCode.UNSET
    assert attributes_of(first)["fetchq.retry_in_s"] == 0.01
    assert (attributes_of(first)["fetchq.try"], attributes_of(second)["fetchq.try"]) == (1, 2)


async def test_a_timeout_is_told_as_such(spans: Spans, embedded: EmbeddedRedis, producer: Producer) -> None:
    async def hang(ctx: Any) -> None:
        await asyncio.Event().wait()

    await run_job(embedded, producer, hang, timeout_s=0.05)
    assert attributes_of(spans.one("process"))["error.type"] == "TimeoutError"


async def test_the_attempt_that_a_stopping_worker_cuts_off_is_told(
    spans: Spans, embedded: EmbeddedRedis, producer: Producer
) -> None:
    began = asyncio.Event()

    async def hang(ctx: Any) -> None:
        began.set()
        await asyncio.Event().wait()

    async with working(embedded, func(hang, name="hang")):
        await producer.enqueue_job("hang")
        async with asyncio.timeout(SOON_S):
            await began.wait()
    assert attributes_of(spans.one("process"))["error.type"] == "CancelledError"


async def test_the_span_is_current_while_the_coroutine_runs_alone(
    spans: Spans, embedded: EmbeddedRedis, producer: Producer
) -> None:
    seen: list[bool] = []

    async def look(ctx: Any) -> None:
        seen.append(trace.get_current_span().is_recording())

    async def on_job_end(ctx: Any) -> None:
        seen.append(trace.get_current_span().get_span_context().is_valid)

    await run_job(embedded, producer, look, on_job_end=on_job_end)
    assert seen == [True, False]


async def test_the_jobs_of_an_unsampled_sender_have_no_spans_and_neither_have_their_calls(
    spans: Spans, embedded: EmbeddedRedis, redis: ArqRedis, producer: Producer, site: Site
) -> None:
    async def call(ctx: Any) -> str:
        with spans.tracer.start_as_current_span("mine") as mine:
            return f"{mine.get_span_context().trace_id:x}"

    async with working(embedded, func(call, name="call")):
        await put(redis, "own", "call", **UNSAMPLED.carrier())
        await put(redis, "fetch", "fetch_data", {"url": site.serve("/", http_response())}, **UNSAMPLED.carrier())
        assert await producer.job("own").value(timeout_s=SOON_S) == "abc"
        assert (await producer.job("fetch").result(timeout_s=SOON_S)).ok
    assert spans.all() == []


async def test_a_job_without_a_sender_is_sampled_as_the_worker_samples(
    embedded: EmbeddedRedis, redis: ArqRedis, producer: Producer
) -> None:
    async def call(ctx: Any) -> bool:
        with trace.get_tracer_provider().get_tracer("test").start_as_current_span("mine") as mine:
            return bool(mine.is_recording())

    with recorded_spans(ALWAYS_OFF) as spans:
        async with working(embedded, func(call, name="call")):
            await put(redis, "off", "call")
            assert await producer.job("off").value(timeout_s=SOON_S) is False
    with recorded_spans() as spans:
        async with working(embedded, func(call, name="call")):
            await put(redis, "on", "call")
            assert await producer.job("on").value(timeout_s=SOON_S) is True
        assert links_of(spans.one("process")) == []


@pytest.mark.parametrize("garbage", [7, None, "", "x" * 55, [1], {"a": 1}, b"00", "00-" + "0" * 32 + "-1-01"])
async def test_a_trace_context_that_is_garbage_is_ignored(
    spans: Spans, embedded: EmbeddedRedis, redis: ArqRedis, producer: Producer, garbage: Any
) -> None:
    async def plain(ctx: Any) -> int:
        return 1

    async with working(embedded, func(plain, name="plain")):
        await put(redis, "j", "plain", traceparent=garbage, tracestate=garbage)
        assert await producer.job("j").value(timeout_s=SOON_S) == 1
    assert links_of(spans.one("process")) == []


async def test_a_provider_that_on_startup_sets_up_is_used(embedded: EmbeddedRedis, producer: Producer) -> None:
    async def plain(ctx: Any) -> int:
        return 1

    with contextlib.ExitStack() as stack:
        found: list[Spans] = []

        async def on_startup(ctx: Any) -> None:
            found.append(stack.enter_context(recorded_spans()))

        assert await run_job(embedded, producer, plain, on_startup=on_startup) == 1
        assert found[0].one("process")


async def test_without_an_sdk_nothing_is_traced(embedded: EmbeddedRedis) -> None:
    async with working(embedded) as worker:
        assert worker.telemetry.traces is None


class FailingProcessor(SpanProcessor):
    """A user's processor with a fault."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise ValueError("on_start")


class LateFailingProcessor(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        raise ValueError("on_end")


@pytest.fixture
def _no_failure_was_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FailuresLogged, "_last_at", float("-inf"))


@pytest.mark.usefixtures("_no_failure_was_logged")
@pytest.mark.parametrize("processor", [FailingProcessor, LateFailingProcessor])
async def test_a_fault_of_the_users_processor_costs_no_job(
    embedded: EmbeddedRedis,
    producer: Producer,
    site: Site,
    processor: type[SpanProcessor],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with recorded_spans(None, processor()):
        async with working(embedded):
            job = await producer.enqueue(site.serve("/", http_response()))
            assert (await job.result(timeout_s=SOON_S)).ok
    assert [record.message for record in caplog.records if record.name == "fetchq.traces"] == [
        "traces.failed span=send"  # once a minute at most
    ]


async def test_an_unknown_parent_is_refused(embedded: EmbeddedRedis) -> None:
    async def plain(ctx: Any) -> None: ...

    with pytest.raises(ValueError, match="trace_parent takes link or child, not 'sibling'"):
        Worker([func(plain, name="plain")], redis_pool=embedded.client(), trace_parent="sibling")
