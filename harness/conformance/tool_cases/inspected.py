"""A queue with a job in each state, for the tools that show one. The running job waits for the key `gate`."""

from __future__ import annotations

import asyncio
from typing import Any

from harness.conformance.tool_cases.reported import REDIS, report_at_exit


async def work(ctx: dict[Any, Any], what: str) -> str:
    if what == "failed":
        raise ValueError(what)
    if what == "running":
        while not await ctx["redis"].exists("gate"):
            await asyncio.sleep(0.02)
    return what


class WorkerSettings:
    functions = [work]  # noqa: RUF012 - as arq's users write it
    redis_settings = REDIS
    burst = True
    max_burst_jobs = 3
    poll_delay = 0.02


report_at_exit(lambda: "ended")
