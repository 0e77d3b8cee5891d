"""What a producer traces: a `send` span for each enqueue, whose context travels with the jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from arq.connections import ArqRedis
from arq.jobs import Job as ArqJob
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanKind, StatusCode, TraceState
from redis.asyncio import Redis
from tests.support.redis_server import RedisServer
from tests.support.spans import Spans, attributes_of, context_of, recorded_spans, traceparent_of

from fetchq import FetchRequest, FetchStatus, InvalidRequest, KeyConflict, Producer, RedisUnavailable, SyncProducer
from fetchq.contract import wire
from fetchq.store.address import RedisAddress
from fetchq.store.connection import connect
from fetchq.store.runner import ClientRunner
from fetchq.telemetry.trace_context import is_unsampled
from fetchq.telemetry.traces import FailuresLogged
from fetchq_worker.process.embedded import EmbeddedRedis

URL = "https://example.org/"

pytestmark = pytest.mark.asyncio


@pytest.fixture
def spans() -> Iterator[Spans]:
    with recorded_spans() as spans:
        yield spans


@pytest_asyncio.fixture
async def redis(embedded: EmbeddedRedis) -> AsyncIterator[Redis]:
    client = embedded.client()
    yield client
    await client.aclose()


async def job_of(redis: Redis, job_id: str) -> dict[str, Any]:
    return wire.deserialize(await redis.get(f"arq:job:{job_id}"))


async def test_a_job_carries_the_context_of_its_send_span(spans: Spans, redis: Redis, producer: Producer) -> None:
    with spans.tracer.start_as_current_span("request") as request:
        job = await producer.enqueue(URL)
    send = spans.one("send")
    assert send.parent == request.get_span_context()
    assert (send.name, send.kind, send.status.status_code) == ("send arq:queue", SpanKind.PRODUCER, StatusCode.UNSET)
    assert attributes_of(send) == {
        "messaging.system": "fetchq",
        "messaging.destination.name": "arq:queue",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.message.id": job.id,
        **{name: value for name, value in attributes_of(send).items() if name.startswith("server.")},
    }
    assert (await job_of(redis, job.id))["traceparent"] == traceparent_of(send)


async def test_the_span_names_the_address_of_redis(spans: Spans, redis_server: RedisServer) -> None:
    redis: Redis = connect(redis_server.url)
    async with Producer(redis) as producer:
        await producer.enqueue(URL)
    address = RedisAddress.parse(redis_server.url)
    expected: dict[str, Any] = {"server.address": address.unix_path}
    if address.unix_path is None:
        expected = dict(zip(("server.address", "server.port"), address.hosts[0], strict=True))
    assert attributes_of(spans.one("send")).items() >= expected.items()
    await redis.aclose()


async def test_a_batch_has_one_span_whose_context_each_of_its_jobs_carries(
    spans: Spans, redis: Redis, producer: Producer
) -> None:
    jobs = await producer.enqueue_many([f"{URL}{n}" for n in range(3)])
    send = spans.one("send")
    assert attributes_of(send)["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in attributes_of(send)
    assert {(await job_of(redis, job.id))["traceparent"] for job in jobs} == {traceparent_of(send)}


async def test_a_job_of_an_own_coroutine_carries_the_context_too(
    spans: Spans, redis: Redis, producer: Producer
) -> None:
    job = await producer.enqueue_job("count", 1, _queue_name="other", _limit_key="tenant")
    send = spans.one("send other")
    assert attributes_of(send)["messaging.message.id"] == job.id
    stored = await job_of(redis, job.id)
    assert (stored["traceparent"], stored["limit_key"]) == (traceparent_of(send), "tenant")


def sync_enqueue(redis_server: RedisServer, tracer: trace.Tracer) -> None:
    with SyncProducer(redis_server.url) as producer, tracer.start_as_current_span("view"):
        producer.enqueue(URL)
        producer.enqueue_many([URL, URL])
        producer.enqueue_job("count", 1)


@pytest.mark.asyncio(loop_scope="function")
async def test_the_span_of_a_sync_producer_belongs_to_its_callers(spans: Spans, redis_server: RedisServer) -> None:
    sync_enqueue(redis_server, spans.tracer)
    view = spans.one("view")
    assert [span.parent for span in spans.named("send")] == [context_of(view)] * 3


async def test_a_span_of_redis_is_within_that_of_the_enqueue(
    spans: Spans, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ClientRunner.run

    async def traced_run(*arguments: Any) -> Any:
        with spans.tracer.start_as_current_span("EVALSHA"):
            return await run(*arguments)

    monkeypatch.setattr(ClientRunner, "run", traced_run)
    await producer.enqueue(URL)
    assert spans.one("EVALSHA").parent == context_of(spans.one("send"))
    assert not trace.get_current_span().get_span_context().is_valid


async def test_the_state_of_a_trace_travels_bounded(spans: Spans, redis: Redis, producer: Producer) -> None:
    state = TraceState([(f"vendor{n}", "v" * 60) for n in range(20)])
    parent = spans.tracer.start_span("request").get_span_context()
    remote = trace.SpanContext(parent.trace_id, parent.span_id, True, parent.trace_flags, state)
    with trace.use_span(NonRecordingSpan(remote)):
        job = await producer.enqueue(URL)
    kept = (await job_of(redis, job.id))["tracestate"]
    assert kept.startswith("vendor0=")
    assert len(kept) <= 512


async def test_an_unsampled_caller_makes_no_span_and_its_jobs_say_so(redis: Redis, producer: Producer) -> None:
    with recorded_spans(ALWAYS_OFF) as spans:
        first = await producer.enqueue(URL)
        with spans.tracer.start_as_current_span("request") as request:
            second = await producer.enqueue(URL)
    assert spans.all() == []
    assert is_unsampled((await job_of(redis, first.id))["traceparent"])
    carried = (await job_of(redis, second.id))["traceparent"]
    assert carried == traceparent_of(request.get_span_context())
    assert is_unsampled(carried)


async def test_without_an_sdk_jobs_carry_nothing(redis: Redis, producer: Producer) -> None:
    job = await producer.enqueue(URL)
    assert set(await job_of(redis, job.id)) == {"t", "f", "a", "k", "et"}


async def test_two_requests_with_one_key_are_the_same_work_whatever_their_traces(
    spans: Spans, producer: Producer
) -> None:
    first = await producer.enqueue(URL, key="order-7")
    with spans.tracer.start_as_current_span("another request"):
        assert await producer.enqueue(URL, key="order-7") == first
    with pytest.raises(KeyConflict):
        await producer.enqueue(URL, key="order-7", method="HEAD")
    *_, refused = spans.named("send")
    assert refused.status.status_code is StatusCode.ERROR
    assert attributes_of(refused)["error.type"] == "KeyConflict"


async def test_a_job_id_is_enqueued_once_whatever_the_traces(spans: Spans, producer: Producer) -> None:
    assert await producer.enqueue_job("count", 1, _job_id="report") is not None
    assert await producer.enqueue_job("count", 1, _job_id="report") is None
    assert len(spans.named("send")) == 2


async def test_an_argument_that_cannot_be_encoded_ends_the_span(spans: Spans, producer: Producer) -> None:
    with pytest.raises(InvalidRequest):
        await producer.enqueue_job("count", object())
    assert attributes_of(spans.one("send"))["error.type"] == "InvalidRequest"


async def test_a_lost_redis_is_told_by_the_span(spans: Spans, tmp_path: Any) -> None:
    async with Producer.from_url(f"unix://{tmp_path}/none.sock") as producer:
        with pytest.raises(RedisUnavailable):
            await producer.enqueue(URL)
    assert attributes_of(spans.one("send"))["error.type"] == "RedisUnavailable"


async def test_a_stock_arq_client_reads_a_traced_job(spans: Spans, redis: Redis, producer: Producer) -> None:
    job = await producer.enqueue(URL)
    arq = ArqRedis(redis.connection_pool, job_deserializer=wire.deserialize)
    info = await ArqJob(job.id, arq, _deserializer=wire.deserialize).info()
    assert info is not None
    assert (info.function, info.args[0]["url"]) == ("fetch_data", URL)


async def test_the_retry_of_a_dead_letter_keeps_the_context(spans: Spans, redis: Redis, producer: Producer) -> None:
    from fetchq.contract.dead_letter import decode_dead_letter, payload_for_retry

    job = await producer.enqueue(FetchRequest(url=URL, delay_s=1))
    payload = await redis.get(f"arq:job:{job.id}")
    limited = wire.serialize({**wire.deserialize(payload), "t": 3})
    head = b"\x94\xc6" + len(limited).to_bytes(4, "big") + limited + wire._encoder.encode("string") + b"\xce"
    ended = {"f": "fetch_data", "t": 3, "st": 1, "ft": 2, "s": True, "r": {"url": URL, "status": FetchStatus.TIMEOUT}}
    dead = decode_dead_letter(job.id, 1, head + len(limited).to_bytes(4, "big") + wire._encoder.encode(ended))
    assert wire.deserialize(payload_for_retry(dead))["traceparent"] == traceparent_of(spans.one("send"))


class FailingProcessor(SpanProcessor):
    """A user's processor with a fault."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        raise ValueError("on_start")


class LateFailingProcessor(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        raise ValueError("on_end")


@pytest.mark.parametrize("processor", [FailingProcessor, LateFailingProcessor])
async def test_a_fault_of_the_users_processor_does_not_stop_an_enqueue(
    producer: Producer,
    processor: type[SpanProcessor],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FailuresLogged, "_last_at", float("-inf"))
    with recorded_spans(None, processor()):
        assert await producer.enqueue(URL)
    assert [record.message for record in caplog.records] == ["traces.failed span=send"]
