"""Spans of logfire around `run_job`, as its users add them: what a job logs is inside its own span.

fetchq makes spans between the two, since logfire sets up OpenTelemetry for the process; they are left out.
"""

from __future__ import annotations

import asyncio
from typing import Any

import arq.worker
import logfire
from arq import Retry
from harness.conformance.tool_cases.reported import REDIS, report_at_exit
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
logfire.configure(
    send_to_logfire=False, console=False, additional_span_processors=[SimpleSpanProcessor(exporter)], metrics=False
)
arq.worker.Worker.run_job = logfire.instrument("run {job_id}")(arq.worker.Worker.run_job)  # type: ignore[method-assign]


async def speak(ctx: dict[Any, Any], number: int) -> None:
    await asyncio.sleep(0.01)
    logfire.info("said {number}", number=number)
    if ctx["job_try"] == 1:
        raise Retry(0.01)


class WorkerSettings:
    functions = [speak]  # noqa: RUF012 - as arq's users write it
    redis_settings = REDIS
    burst = True
    poll_delay = 0.02


def observed() -> list[Any]:
    spans: list[Any] = list(exporter.get_finished_spans())
    parents = {span.context.span_id: span.parent and span.parent.span_id for span in spans}
    of_fetchq = {span.context.span_id for span in spans if span.instrumentation_scope.name == "fetchq"}
    messages = {
        span.context.span_id: span.attributes["logfire.msg"] for span in spans if span.context.span_id not in of_fetchq
    }

    def parent_of(span: int) -> int | None:
        parent = parents[span]
        return parent if parent is None or parent not in of_fetchq else parent_of(parent)

    return sorted([messages[span], str(messages.get(parent_of(span) or 0))] for span in messages)


report_at_exit(observed)
