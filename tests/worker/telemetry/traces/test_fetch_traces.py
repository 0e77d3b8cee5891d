"""The spans of fetches: `process` for each attempt, and `GET` for its request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from arq.connections import ArqRedis
from opentelemetry.trace import SpanKind, StatusCode
from tests.support.spans import Spans, attributes_of, context_of
from tests.support.web.site import Site, Visit, http_response
from tests.worker.telemetry.traces.conftest import SENDER, SOON_S, links_of, put, run_job, working

from fetchq import FetchStatus, Producer, RetryPolicy
from fetchq_worker.fetch import fetch
from fetchq_worker.process.embedded import EmbeddedRedis

pytestmark = pytest.mark.asyncio


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


async def test_a_fetch_that_a_client_cancels_has_a_span_of_its_outcome(
    spans: Spans, embedded: EmbeddedRedis, producer: Producer, site: Site
) -> None:
    began = asyncio.Event()

    async def hang(visit: Visit) -> None:
        began.set()
        await asyncio.Event().wait()

    async with working(embedded), asyncio.timeout(SOON_S):
        job = await producer.enqueue(site.serve("/", hang))
        await began.wait()
        await job.cancel()
        assert (await job.result(timeout_s=SOON_S)).status is FetchStatus.CANCELLED
    assert attributes_of(spans.one("process"))["error.type"] == "CANCELLED"


async def test_a_job_that_ends_without_an_attempt_has_a_span_of_its_outcome(
    spans: Spans, embedded: EmbeddedRedis, redis: ArqRedis, producer: Producer
) -> None:
    async with working(embedded):
        await put(redis, "j", "fetch_data", {"url": "ftp://example.org/"}, **SENDER)
        assert (await producer.job("j").result(timeout_s=SOON_S)).status is FetchStatus.INVALID_URL
    assert attributes_of(spans.one("process"))["error.type"] == "INVALID_URL"
    assert spans.named("GET") == []


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
