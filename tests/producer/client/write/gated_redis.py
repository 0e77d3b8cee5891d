"""A client of Redis whose scripts wait until a test lets them go, and tasks that wait for one of them."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from redis.asyncio import Redis

from fetchq import FetchJob, Producer

PATIENCE_S: Final = 20


class GatedRedis(Redis):
    """A client whose scripts wait for `gate` before they are sent."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(connection_pool=redis.connection_pool)
        self.gate = asyncio.Event()
        self.reached = asyncio.Event()
        self.jobs_a_call: list[int] = []
        self.failures: list[Exception] = []

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] == "EVALSHA":
            self.jobs_a_call.append(sum(isinstance(argument, bytes) for argument in args))  # the payloads
            self.reached.set()
            await self.gate.wait()
            if self.failures:
                raise self.failures.pop(0)
        return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py 5


async def enqueue_behind(producer: Producer, gated: GatedRedis, count: int) -> list[asyncio.Task[FetchJob]]:
    """Tasks of which the first has a call under way, which waits for the gate; the others wait for that call."""
    tasks = [asyncio.create_task(producer.enqueue(f"http://h/{i}")) for i in range(count)]
    async with asyncio.timeout(PATIENCE_S):
        await gated.reached.wait()
        while len(producer._writer._shared._coalescer.waiting) < count - 1:
            await asyncio.sleep(0)
    return tasks


async def queued(redis: Redis) -> set[str]:
    return {job_id.decode() for job_id in await redis.zrange("arq:queue", 0, -1)}
