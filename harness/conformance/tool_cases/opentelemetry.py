"""OpenTelemetry's instrumentation of arq: the span of a job belongs to the trace that enqueued it."""

from __future__ import annotations

from typing import Any

from arq import Retry, cron
from harness.conformance.tool_cases.reported import REDIS, report_at_exit
from opentelemetry.instrumentation.arq import ArqInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
ArqInstrumentor().instrument(tracer_provider=provider)


async def parent(ctx: dict[Any, Any]) -> None:
    await ctx["redis"].enqueue_job("child", 7, _job_id="the-child", _defer_by=0.05)
    assert await ctx["redis"].enqueue_job("child", 7, _job_id="the-child") is None


async def child(ctx: dict[Any, Any], number: int) -> int:
    if ctx["job_try"] == 1:
        raise Retry(0.01)
    return number


async def broken(ctx: dict[Any, Any]) -> None:
    raise ValueError("broken")


async def tick(ctx: dict[Any, Any]) -> None: ...


class WorkerSettings:
    functions = [parent, child, broken]  # noqa: RUF012 - as arq's users write it
    cron_jobs = [cron(tick, run_at_startup=True)]  # noqa: RUF012
    redis_settings = REDIS
    burst = True
    poll_delay = 0.02


def observed() -> list[Any]:
    spans = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans}
    return sorted(
        [
            span.name,
            span.kind.name,
            span.status.status_code.name,
            None if span.parent is None else names.get(span.parent.span_id, "elsewhere"),
            (span.attributes or {}).get("arq.job.try"),
            sorted(span.attributes or {}),
        ]
        for span in spans
    )


report_at_exit(observed)
