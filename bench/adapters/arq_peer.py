"""arq: with its defaults, and tuned."""

import asyncio
from importlib.metadata import version
from typing import Any, ClassVar

import uvloop
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job
from arq.worker import Worker

from . import jobs
from .serve import QueueClient, main
from .settings import read_settings

_settings = read_settings()
_redis = RedisSettings(port=_settings.redis_port)

TUNED_POLL_S = 0.005
"""arq has no wake-up, so it polls: a compromise between latency and load on Redis."""


class Client(QueueClient):
    unfinished = (("ZCARD", "arq:queue"),)
    versions: ClassVar = {"arq": version("arq"), "redis-py": version("redis"), "hiredis": version("hiredis")}

    async def open(self) -> None:
        self._pool: ArqRedis = await create_pool(_redis)

    async def close(self) -> None:
        await self._pool.aclose()

    async def enqueue(self, job: str, args: list[Any]) -> Job | None:
        return await self._pool.enqueue_job(job, *args)

    async def result(self, handle: Job) -> Any:
        return await handle.result(poll_delay=TUNED_POLL_S) if _settings.tuned else await handle.result()


async def _startup(ctx: dict[Any, Any]) -> None:
    ctx["session"] = jobs.new_session()


async def _shutdown(ctx: dict[Any, Any]) -> None:
    await ctx["session"].close()


async def fetch(ctx: dict[Any, Any], url: str) -> dict[str, Any]:
    return await jobs.fetch(ctx["session"], url)


async def empty(_ctx: dict[Any, Any]) -> None:
    return await jobs.empty()


async def stamp(_ctx: dict[Any, Any]) -> int:
    return await jobs.stamp()


async def nap(_ctx: dict[Any, Any]) -> None:
    await jobs.nap()


async def hold(_ctx: dict[Any, Any], path: str) -> None:
    await jobs.hold(path, _settings.hold_s)


FUNCTIONS: Any = [fetch, empty, stamp, nap, hold]


def work() -> None:
    options: dict[str, Any] = {}
    if _settings.tuned:
        options = {
            "max_jobs": _settings.concurrency,
            "queue_read_limit": _settings.concurrency * 10,
            "poll_delay": TUNED_POLL_S,
        }
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())
    Worker(FUNCTIONS, redis_settings=_redis, on_startup=_startup, on_shutdown=_shutdown, **options).run()


if __name__ == "__main__":
    main(Client, work)
