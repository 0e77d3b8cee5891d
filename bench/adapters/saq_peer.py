"""SAQ on its Redis queue."""

import asyncio
from importlib.metadata import version
from typing import Any, ClassVar

import uvloop
from saq import Queue, Worker
from saq.job import Job

from . import jobs
from .serve import QueueClient, main
from .settings import read_settings

_settings = read_settings()

RESULT_POLL_S = 0.005
"""Poll interval as for arq; the default of SAQ's `apply` is 0.5 s."""


class Client(QueueClient):
    unfinished = (("ZCARD", "saq:default:incomplete"),)
    versions: ClassVar = {"saq": version("saq"), "redis-py": version("redis"), "hiredis": version("hiredis")}

    async def open(self) -> None:
        self._queue = Queue.from_url(_settings.redis_url)
        await self._queue.connect()

    async def close(self) -> None:
        await self._queue.disconnect()

    async def enqueue(self, job: str, args: list[Any]) -> Job | None:
        # SAQ drops a swept job if no tries remain.
        named = {"url": args[0]} if job == "fetch" else {"path": args[0]} if job == "hold" else {}
        return await self._queue.enqueue(job, retries=3, **named)

    async def result(self, handle: Job) -> Any:
        # `refresh(until_complete=...)` misses a job that finishes between its check and its subscription.
        await handle.refresh()
        while not handle.completed:
            await asyncio.sleep(RESULT_POLL_S)
            await handle.refresh()
        return handle.result


async def _startup(ctx: Any) -> None:
    ctx["session"] = jobs.new_session()


async def _shutdown(ctx: Any) -> None:
    await ctx["session"].close()


async def fetch(ctx: Any, *, url: str) -> dict[str, Any]:
    return await jobs.fetch(ctx["session"], url)


async def empty(_ctx: Any) -> None:
    await jobs.empty()


async def stamp(_ctx: Any) -> int:
    return await jobs.stamp()


async def nap(_ctx: Any) -> None:
    await jobs.nap()


async def hold(_ctx: Any, *, path: str) -> None:
    await jobs.hold(path, _settings.hold_s)


async def _work() -> None:
    queue = Queue.from_url(_settings.redis_url)
    await queue.connect()
    functions: Any = [fetch, empty, stamp, nap, hold]
    worker: Worker[Any] = Worker(
        queue, functions, concurrency=_settings.concurrency, startup=_startup, shutdown=_shutdown
    )
    await worker.start()


def work() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work())


if __name__ == "__main__":
    main(Client, work)
