"""A trace from the request of a service, through the enqueue and the attempts, to the result."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind
from tests.support.spans import Spans, attributes_of, context_of, recorded_spans
from tests.support.web.site import Site, http_response

from fetchq import FetchStatus, Producer, RetryOutcome, RetryPolicy

from .conftest import Working

SOON_S = 20
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_OF_CALLER = 0x0AF7651916CD43DD8448EB211C80319C

pytestmark = pytest.mark.asyncio


@pytest.fixture
def spans() -> Iterator[Spans]:
    with recorded_spans() as spans:
        yield spans


def service(producer: Producer) -> FastAPI:
    app = FastAPI()

    @app.post("/fetches")
    async def start(url: str) -> str:
        job = await producer.enqueue(url, retry=RetryPolicy(base_s=0))
        return (await job.result(timeout_s=SOON_S)).status

    return app


def ancestors(spans: Spans, span: ReadableSpan) -> list[str]:
    by_id = {context_of(each).span_id: each for each in spans.all()}
    found = []
    while span.parent is not None and span.parent.span_id in by_id:
        span = by_id[span.parent.span_id]
        found.append(span.name)
    return found


def is_linked(span: ReadableSpan, to: SpanContext) -> bool:
    return [(link.context.trace_id, link.context.span_id) for link in span.links] == [(to.trace_id, to.span_id)]


@pytest.mark.parametrize("traces", ["child", "link"])
async def test_a_request_of_a_service_leads_to_each_attempt_of_its_fetch(
    spans: Spans, producer: Producer, working: Working, site: Site, traces: str
) -> None:
    url = site.serve("/flaky", http_response(status=503), http_response(b"well"))
    transport = ASGITransport(service(producer))
    async with working(traces=traces), AsyncClient(transport=transport, base_url="http://service") as client:
        response = await client.post("/fetches", params={"url": url}, headers={"traceparent": CALLER})
    assert response.json() == "OK"
    [server] = [span for span in spans.all() if span.kind is SpanKind.SERVER]
    send, requests, attempts = spans.one("send"), spans.named("GET"), spans.named("process")
    assert context_of(send).trace_id == context_of(server).trace_id == TRACE_OF_CALLER
    assert server.name in ancestors(spans, send)
    assert [attributes_of(span)["http.response.status_code"] for span in requests] == [503, 200]
    assert [attributes_of(span)["messaging.message.id"] for span in (send, *attempts)] == 3 * [
        attributes_of(send)["messaging.message.id"]
    ]
    for attempt, request in zip(attempts, requests, strict=True):
        assert request.parent == context_of(attempt)
        if traces == "child":
            assert ancestors(spans, request)[:2] == ["process arq:queue", "send arq:queue"]
            assert context_of(request).trace_id == TRACE_OF_CALLER
        else:
            assert is_linked(attempt, context_of(send))
    assert "traceparent" not in {name.lower() for visit in site.visits for name, _ in visit.headers}


async def test_a_job_that_waits_for_its_host_keeps_its_sender(
    spans: Spans, producer: Producer, working: Working, site: Site
) -> None:
    await producer.limits.set("127.0.0.1", concurrency=1)
    url = site.serve("/", http_response(b""))
    jobs = [await producer.enqueue(url) for _ in range(4)]
    async with working():
        for job in jobs:
            assert (await job.result(timeout_s=SOON_S)).ok
    senders = {attributes_of(span)["messaging.message.id"]: context_of(span) for span in spans.named("send")}
    attempts = spans.named("process")
    assert len(attempts) == 4
    assert all(is_linked(span, senders[attributes_of(span)["messaging.message.id"]]) for span in attempts)


async def test_the_retry_of_a_dead_letter_keeps_its_sender(
    spans: Spans, producer: Producer, working: Working, site: Site
) -> None:
    url = site.serve("/", http_response(status=503), http_response(b"well"))
    async with working():
        job = await producer.enqueue(url, retry=RetryPolicy(max_tries=1))
        assert (await job.result(timeout_s=SOON_S)).status is FetchStatus.HTTP_ERROR
        assert await producer.dead_letters.retry_many([job.id]) == [RetryOutcome.RETRIED]
        assert (await job.result(timeout_s=SOON_S)).ok
    failed, well = spans.named("process")
    assert is_linked(failed, context_of(spans.one("send")))
    assert is_linked(well, context_of(spans.one("send")))
