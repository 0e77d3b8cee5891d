"""The `process` spans of a worker: one for each attempt of a job."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from arq import Retry
from arq.connections import ArqRedis
from arq.worker import func
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import StatusCode
from tests.support.spans import Spans, attributes_of, context_of, recorded_spans
from tests.support.web.site import Site, http_response
from tests.worker.telemetry.traces.conftest import SENDER, SOON_S, UNSAMPLED, links_of, put, run_job, working

from fetchq import Producer
from fetchq.telemetry.traces import FailuresLogged
from fetchq_worker.engine import Worker
from fetchq_worker.process.embedded import EmbeddedRedis

pytestmark = pytest.mark.asyncio


async def test_the_span_of_an_attempt_can_be_its_senders_child(
    spans: Spans, embedded: EmbeddedRedis, redis: ArqRedis, producer: Producer
) -> None:
    async def plain(ctx: Any) -> None: ...

    async with working(embedded, func(plain, name="plain"), traces="child"):
        await put(redis, "j", "plain", **SENDER)
        await producer.job("j").value(timeout_s=SOON_S)
    process = spans.one("process")
    assert process.parent is not None
    assert (process.parent.trace_id, process.parent.span_id, process.parent.is_remote) == (0xABC, 0xDEF, True)
    assert context_of(process).trace_id == 0xABC
    assert context_of(process).trace_state.to_header() == "vendor=x"
    assert links_of(process) == []


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
    assert "test_job_traces.py" in str((event.attributes or {})["exception.stacktrace"])


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
        await put(redis, "own", "call", **UNSAMPLED)
        await put(redis, "fetch", "fetch_data", {"url": site.serve("/", http_response())}, **UNSAMPLED)
        assert await producer.job("own").value(timeout_s=SOON_S) == "abc"
        assert (await producer.job("fetch").result(timeout_s=SOON_S)).ok
    assert spans.all() == []


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(ALWAYS_OFF), ParentBased(TraceIdRatioBased(0))])
async def test_a_job_without_a_sender_is_sampled_as_the_worker_samples(
    embedded: EmbeddedRedis, redis: ArqRedis, producer: Producer, sampler: Sampler
) -> None:
    async def call(ctx: Any) -> bool:
        with trace.get_tracer_provider().get_tracer("test").start_as_current_span("mine") as mine:
            return bool(mine.is_recording())

    with recorded_spans(sampler) as spans:
        async with working(embedded, func(call, name="call")):
            await put(redis, "off", "call")
            assert await producer.job("off").value(timeout_s=SOON_S) is False
        assert spans.all() == []
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


async def test_a_worker_with_traces_off_makes_no_spans(
    spans: Spans, embedded: EmbeddedRedis, producer: Producer
) -> None:
    async def plain(ctx: Any) -> None: ...

    await run_job(embedded, producer, plain, traces="off")
    assert [span.name for span in spans.all()] == ["send arq:queue"]


@pytest.mark.parametrize("traces", ["link", "child"])
async def test_a_span_of_a_tool_around_the_run_is_kept_as_parent_or_link(
    spans: Spans, embedded: EmbeddedRedis, producer: Producer, monkeypatch: pytest.MonkeyPatch, traces: str
) -> None:
    run_job_of_arq = Worker.run_job

    async def traced_run_job(self: Worker, job_id: str, score: int) -> None:
        with spans.tracer.start_as_current_span("run_job"):
            await run_job_of_arq(self, job_id, score)

    async def plain(ctx: Any) -> None: ...

    monkeypatch.setattr(Worker, "run_job", traced_run_job)
    await run_job(embedded, producer, plain, traces=traces)
    send, outer, process = spans.one("send"), context_of(spans.one("run_job")), spans.one("process")
    parent, link = (outer, context_of(send)) if traces == "link" else (context_of(send), outer)
    assert process.parent is not None
    assert process.parent.span_id == parent.span_id
    assert links_of(process) == [(link.trace_id, link.span_id)]


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

    with pytest.raises(ValueError, match="traces takes link, child or off, not 'sibling'"):
        Worker([func(plain, name="plain")], redis_pool=embedded.client(), traces="sibling")
