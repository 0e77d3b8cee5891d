"""z4j's capture of a worker's events, by hooks that read the job and its result from Redis."""

from __future__ import annotations

import asyncio
from typing import Any

from arq import Retry
from harness.conformance.tool_cases.reported import REDIS, report_at_exit
from z4j_arq import ArqEngineAdapter
from z4j_arq.events import attach_to_worker_settings


async def work(ctx: dict[Any, Any], number: int) -> int:
    if number == 1:
        raise ValueError(number)
    if number == 2 and ctx["job_try"] == 1:
        raise Retry(0.5)
    return number


class WorkerSettings:
    functions = [work]  # noqa: RUF012 - as arq's users write it
    redis_settings = REDIS
    burst = True
    poll_delay = 0.02


adapter = ArqEngineAdapter(redis_settings=REDIS)
attach_to_worker_settings(WorkerSettings, adapter=adapter)


def observed() -> list[Any]:
    events: list[list[str]] = []
    while True:
        try:
            event = adapter._event_queue.get_nowait()
        except asyncio.QueueEmpty:
            return sorted(events)
        events.append([event.task_id, event.kind.value, event.data.get("task_name")])


report_at_exit(observed)
