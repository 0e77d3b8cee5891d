"""streaq: its `run_sync` on uvloop, `enqueue_many` for many, results by its own pub/sub."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any, ClassVar

import aiohttp
from streaq import Worker

from . import jobs
from .serve import QueueClient, main
from .settings import read_settings

_settings = read_settings()


@asynccontextmanager
async def _lifespan() -> AsyncIterator[aiohttp.ClientSession]:
    async with jobs.new_session() as session:
        yield session


_worker: Worker[Any] = Worker(
    redis_url=_settings.redis_url,
    concurrency=_settings.concurrency,
    lifespan=_lifespan,
    anyio_kwargs={"use_uvloop": True},
)


@_worker.task
async def fetch(url: str) -> dict[str, Any]:
    return await jobs.fetch(_worker.context, url)


@_worker.task
async def empty() -> None:
    await jobs.empty()


@_worker.task
async def stamp() -> int:
    return await jobs.stamp()


@_worker.task
async def nap() -> None:
    await jobs.nap()


@_worker.task
async def hold(path: str) -> None:
    await jobs.hold(path, _settings.hold_s)


_TASKS: dict[str, Any] = {"fetch": fetch, "empty": empty, "stamp": stamp, "nap": nap, "hold": hold}

BATCH = 1_000


class Client(QueueClient):
    unfinished = (("XLEN", "streaq:default:queues:normal"),)
    versions: ClassVar = {"streaq": version("streaq"), "coredis": version("coredis")}

    async def open(self) -> None:
        self._stack = AsyncExitStack()
        await self._stack.enter_async_context(_worker)

    async def close(self) -> None:
        await self._stack.aclose()

    async def enqueue(self, job: str, args: list[Any]) -> Any:
        return await _TASKS[job].enqueue(*args)

    async def enqueue_many(self, job: str, args: list[Any], count: int) -> None:
        for start in range(0, count, BATCH):
            await _worker.enqueue_many([_TASKS[job].enqueue(*args) for _ in range(min(BATCH, count - start))])

    async def result(self, handle: Any) -> Any:
        return (await handle.result(timeout=30)).result


if __name__ == "__main__":
    main(Client, _worker.run_sync)
