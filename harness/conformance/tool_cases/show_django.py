"""Prints what arq-django-admin shows of the queue."""

from __future__ import annotations

import asyncio
import json

from django.conf import settings
from harness.conformance.tool_cases.reported import REDIS

settings.configure(ARQ_QUEUES={"arq:queue": REDIS}, USE_TZ=True)


async def main() -> None:
    from arq_admin.queue import Queue

    async with Queue.from_name("arq:queue") as queue:
        stats = await queue.get_stats()
        jobs = await queue.get_jobs()
    shown = sorted(
        [job.job_id, str(job.status), job.function, list(job.args), job.success, str(job.result)] for job in jobs
    )
    print(json.dumps([[stats.queued_jobs, stats.running_jobs, stats.deferred_jobs, stats.error], shown]))


if __name__ == "__main__":
    asyncio.run(main())
