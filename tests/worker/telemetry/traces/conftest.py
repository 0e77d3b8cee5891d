"""A worker that is traced, beside its site and its Redis."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from arq.connections import ArqRedis
from arq.worker import func
from opentelemetry.sdk.trace import ReadableSpan
from tests.support.running import running
from tests.support.spans import Spans, recorded_spans
from tests.support.web.site import Site

from fetchq import JobFailed, Producer
from fetchq.contract import wire
from fetchq.telemetry.trace_context import carried
from fetchq_worker.engine import Worker
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.embedded import EmbeddedRedis
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.settings import Settings

SOON_S = 20
SENDER = carried(0xABC, 0xDEF, 1, "vendor=x")
UNSAMPLED = carried(0xABC, 0xDEF, 0)


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
