"""arq-prometheus: gauges made of the health check that the worker writes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from arq import Retry
from arq_prometheus import ArqPrometheusMetrics
from harness.conformance.tool_cases.reported import REDIS, report_at_exit
from prometheus_client import CollectorRegistry

registry = CollectorRegistry()


async def on_startup(ctx: dict[Any, Any]) -> None:
    metrics = ArqPrometheusMetrics(ctx, delay=timedelta(seconds=0.05), enable_webserver=False, registry=registry)
    ctx["metrics"] = await metrics.start()


async def on_shutdown(ctx: dict[Any, Any]) -> None:
    await ctx["metrics"].stop()


async def work(ctx: dict[Any, Any], number: int) -> None:
    if number == 1:
        raise ValueError(number)
    if number == 2 and ctx["job_try"] == 1:
        raise Retry(0.01)
    # The last job waits until the gauges show the others, and itself.
    while number == 3 and values() != {"completed": 2, "failed": 1, "retried": 1, "ongoing": 1, "queued": 1}:
        await asyncio.sleep(0.02)


class WorkerSettings:
    functions = [work]  # noqa: RUF012 - as arq's users write it
    redis_settings = REDIS
    on_startup = on_startup
    on_shutdown = on_shutdown
    burst = True
    poll_delay = 0.02
    health_check_interval = 0.05
    job_timeout = 20


def values() -> dict[str, float | None]:
    names = {
        "completed": "arq_jobs_completed",
        "failed": "arq_jobs_failed",
        "retried": "arq_jobs_retried",
        "ongoing": "arq_jobs_ongoing",
        "queued": "arq_queued_inprogress",
    }
    return {name: registry.get_sample_value(gauge) for name, gauge in names.items()}


report_at_exit(values)
