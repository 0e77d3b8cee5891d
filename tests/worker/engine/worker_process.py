"""A worker in a separate process, for tests that kill or signal it.

Arguments: the address of Redis, the lease in s, the grace in s. Each job reports its start on stdout; `work(for_s)`
lasts that long.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from arq import func
from arq.connections import ArqRedis

from fetchq.store.connection import connect
from fetchq_worker.engine import Worker


async def work(ctx: Any, for_s: float) -> str:
    print("started", ctx["job_id"], ctx["job_try"], flush=True)
    await asyncio.sleep(for_s)
    return "done"


def main() -> None:
    url, lease_s, grace_s = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    asyncio.set_event_loop(asyncio.new_event_loop())
    worker = Worker(
        [func(work, name="work")],
        redis_pool=connect(url, redis_class=ArqRedis),
        lease_s=lease_s,
        job_completion_wait=grace_s,
        max_jobs=50,
        poll_delay=0.1,
    )
    worker.run()


if __name__ == "__main__":
    main()
