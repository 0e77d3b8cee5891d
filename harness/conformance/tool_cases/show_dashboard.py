"""Prints what arq-dashboard's pages show of the queue."""

from __future__ import annotations

import json
import os
from typing import Any

os.environ["ARQ_DASHBOARD_REDIS_URL"] = f"redis://localhost:{os.environ['TOOL_REDIS_PORT']}"
os.environ["ARQ_DASHBOARD_LOG_LEVEL"] = "ERROR"


def main() -> None:
    import asyncio

    from arq_dashboard.core.settings import ARQ_QUEUES
    from arq_dashboard.queue import Queue

    async def show() -> list[Any]:
        [(name, redis)] = ARQ_QUEUES.items()
        queue = Queue(name, redis)
        stats = json.loads((await queue.get_stats()).json())
        jobs = [json.loads(job.json()) for job in await queue.get_jobs()]
        counts = sorted((key, value) for key, value in stats.items() if key.lower().endswith("jobs"))
        return [
            counts,
            sorted([job["id"], job["status"], job["function"], job["args"], job["success"]] for job in jobs),
        ]

    print(json.dumps(asyncio.run(show())))


if __name__ == "__main__":
    main()
