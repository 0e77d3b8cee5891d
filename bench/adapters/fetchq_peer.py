"""fetchq: its producer, and its engine with the fetch and the jobs of the bench."""

import asyncio
from importlib.metadata import version
from typing import Any, ClassVar

import uvloop

from fetchq import FetchResult, Producer
from fetchq.client.handles import FetchJob, Job
from fetchq.client.limits import MAX_CONCURRENCY
from fetchq.contract.job_ids import JobIds
from fetchq.contract.wire import encode_job
from fetchq.store.commands import JobCommands, NewJob
from fetchq.store.runner import ClientRunner

from . import jobs
from .serve import QueueClient, main
from .settings import read_settings

_settings = read_settings()

BATCH = 1_000
RESULT_S = 30.0


class Client(QueueClient):
    unfinished = (("ZCARD", "arq:queue"),)
    versions: ClassVar = {name: version(name) for name in ("fetchq", "fetchq-worker", "uvloop", "msgspec", "hiredis")}

    async def open(self) -> None:
        self._producer = Producer.from_url(_settings.redis_url)
        await self.reset()

    async def reset(self) -> None:
        """Raises fetchq's limit per host: all fetches go to one host, and the peers have no such limit."""
        await self._producer.limits.set("*", concurrency=MAX_CONCURRENCY)

    async def close(self) -> None:
        await self._producer.aclose()

    async def enqueue(self, job: str, args: list[Any]) -> Job:
        if job == "fetch":
            return await self._producer.enqueue(args[0])
        return await self._producer.enqueue_job(job, *args)

    async def enqueue_many(self, job: str, args: list[Any], count: int) -> None:
        if job == "fetch":
            await self._producer.enqueue_many(args[0] for _ in range(count))
        else:
            await self._fill(job, args, count)

    async def result(self, handle: Job) -> Any:
        if not isinstance(handle, FetchJob):
            return await handle.value(RESULT_S)
        result: FetchResult = await handle.result(timeout_s=RESULT_S)
        return {"status": result.http_status, "body": result.body or b""}

    async def _fill(self, job: str, args: list[Any], count: int) -> None:
        """Enqueues many jobs of a coroutine. `enqueue_many` is for fetches only; this is never what is measured."""
        from redis.asyncio import Redis

        ids = JobIds()
        payload = encode_job(job, tuple(args), {}, 0)
        async with Redis.from_url(_settings.redis_url) as redis:
            runner, commands = ClientRunner(redis), JobCommands(self._producer.keys)
            for start in range(0, count, BATCH):
                batch = [NewJob(job_id, payload, "", "", "") for job_id in ids.new_ids(min(BATCH, count - start))]
                await commands.enqueue(runner, batch)


async def empty(_ctx: dict[Any, Any]) -> None:
    await jobs.empty()


async def stamp(_ctx: dict[Any, Any]) -> int:
    return await jobs.stamp()


async def nap(_ctx: dict[Any, Any]) -> None:
    await jobs.nap()


async def hold(_ctx: dict[Any, Any], path: str) -> None:
    await jobs.hold(path, _settings.hold_s)


def work() -> None:
    # Imported here, so that a producer's process does not load the worker.
    from arq.connections import ArqRedis

    from fetchq.store.connection import connect
    from fetchq_worker.process.arq_settings import worker_settings
    from fetchq_worker.process.gc_tuning import tune_gc
    from fetchq_worker.process.make_worker import make_worker
    from fetchq_worker.settings import Settings

    # The site is on loopback, which the egress guard must allow. It still checks every address.
    settings = Settings(
        redis_url=_settings.redis_url, concurrency=_settings.concurrency, allow_net=("127.0.0.1/32",), grace_s=1.0
    )
    options = {} if _settings.lease_s is None else {"lease_s": _settings.lease_s}
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())
    redis = connect(settings.redis_url, redis_class=ArqRedis)
    worker = make_worker(worker_settings([empty, stamp, nap, hold], settings=settings), redis, **options)
    tune_gc()  # as `fetchq worker` does
    worker.run()


if __name__ == "__main__":
    main(Client, work)
