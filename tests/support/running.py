"""Running a worker inside a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fetchq_worker.engine import Worker


@asynccontextmanager
async def running(*workers: Worker) -> AsyncIterator[None]:
    """Runs the workers, and stops them at the end as a signal does."""
    mains = [asyncio.create_task(worker.main()) for worker in workers]
    for worker, main in zip(workers, mains, strict=True):
        worker.main_task = main
    try:
        yield
    finally:
        for worker in workers:
            await worker.close()
        ended = await asyncio.gather(*mains, return_exceptions=True)
    for end in ended:
        if isinstance(end, Exception):
            raise end


async def wait_until(condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = 10) -> None:
    """Polls until the condition holds, for state that has no event, such as a key in Redis."""
    async with asyncio.timeout(timeout_s):
        while True:
            holds = condition()
            if holds is True or (not isinstance(holds, bool) and await holds):
                return
            await asyncio.sleep(0.005)
