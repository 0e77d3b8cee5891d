"""taskiq with the Redis stream broker, the one of its Redis brokers that acknowledges, under its own command."""

import sys
from importlib.metadata import version
from typing import Any, ClassVar

import aiohttp
from taskiq import TaskiqEvents, TaskiqState
from taskiq.cli.worker.args import WorkerArgs
from taskiq.cli.worker.run import run_worker
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from . import jobs
from .serve import QueueClient, main
from .settings import read_settings

_settings = read_settings()

CHECK_INTERVAL_S = 0.01
"""taskiq polls for a result; its default of 0.2 s would be most of the round trip."""

broker = (
    RedisStreamBroker(_settings.redis_url, consumer_id="0")
    .with_result_backend(RedisAsyncResultBackend(_settings.redis_url, result_ex_time=3600))
    .with_serializer(ORJSONSerializer())
)
_session: list[aiohttp.ClientSession] = []


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def _startup(_state: TaskiqState) -> None:
    _session.append(jobs.new_session())


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def _shutdown(_state: TaskiqState) -> None:
    await _session.pop().close()


@broker.task(task_name="fetch")
async def fetch(url: str) -> dict[str, Any]:
    return await jobs.fetch(_session[0], url)


@broker.task(task_name="empty")
async def empty() -> None:
    await jobs.empty()


@broker.task(task_name="stamp")
async def stamp() -> int:
    return await jobs.stamp()


@broker.task(task_name="nap")
async def nap() -> None:
    await jobs.nap()


@broker.task(task_name="hold")
async def hold(path: str) -> None:
    await jobs.hold(path, _settings.hold_s)


_TASKS: dict[str, Any] = {"fetch": fetch, "empty": empty, "stamp": stamp, "nap": nap, "hold": hold}


class Client(QueueClient):
    finished = (("DBSIZE",),)  # each result is one key, and taskiq adds and removes no others
    versions: ClassVar = {
        "taskiq": version("taskiq"),
        "taskiq-redis": version("taskiq-redis"),
        "redis-py": version("redis"),
    }

    async def open(self) -> None:
        await broker.startup()

    async def close(self) -> None:
        await broker.shutdown()

    async def reset(self) -> None:
        await broker.startup()  # declares the consumer group again

    async def enqueue(self, job: str, args: list[Any]) -> Any:
        return await _TASKS[job].kiq(*args)

    async def result(self, handle: Any) -> Any:
        return (await handle.wait_result(check_interval=CHECK_INTERVAL_S, timeout=30)).return_value


def work() -> None:
    run_worker(
        WorkerArgs(
            broker="bench.adapters.taskiq_peer:broker",
            modules=[],
            workers=1,
            max_async_tasks=_settings.concurrency,
            max_prefetch=_settings.concurrency,
            log_level="WARNING",
        )
    )
    sys.exit(0)


if __name__ == "__main__":
    main(Client, work)
