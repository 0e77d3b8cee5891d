"""A queue and its worker inside this process, for commands that are to need no other."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import msgspec
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from fetchq import FetchqError, Producer
from fetchq.store.connection import connect
from fetchq_worker.cli.actions.redis_client import REPLY_S, wait_for_answer
from fetchq_worker.engine import Worker
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.embedded import EmbeddedRedis
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.settings import DeadLetterKind, Settings

_CLOSE_TIMEOUT_S: Final = 20.0
"""Longer than the worker gives its last commit, and runs that are being cancelled."""


class InProcess(NamedTuple):
    """What runs here. `redis` is the producer's own client; `stop_worker` may be called more than once."""

    producer: Producer
    redis: ArqRedis
    worker: Worker
    working: asyncio.Task[None]
    """Ends only when the worker has failed, or was stopped."""

    async def stop_worker(self) -> None:
        """Claims no more and gives what is running back to the queue."""
        if not self.working.done():
            self.worker.handle_sig(signal.SIGUSR1)  # one cancel() of its task could be lost
            self.working.cancel()  # in case it has not begun yet
            await asyncio.wait([self.working], timeout=_CLOSE_TIMEOUT_S)
        # With Redis away, what cannot be given back is taken back by the queue when its lease ends.
        with contextlib.suppress(TimeoutError, RedisError, OSError, FetchqError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self.worker.close()


@asynccontextmanager
async def in_process(settings: Settings, *, embedded: bool) -> AsyncIterator[InProcess]:
    """A producer and a running worker on the Redis of `settings`, or on one inside the process.

    Raises `RedisUnavailable`.
    """
    server = EmbeddedRedis() if embedded else None
    if embedded:  # nobody could ever look at them
        settings = msgspec.structs.replace(settings, dead_letters=DeadLetterKind.NONE)

    def client() -> ArqRedis:
        if server is not None:
            return server.client()
        return connect(settings.redis_url, redis_class=ArqRedis, socket_timeout_s=REPLY_S)

    redis = client()
    try:
        await wait_for_answer(redis)
        async with Producer(redis, queue=settings.queue) as producer:
            worker = make_worker(
                worker_settings(settings=settings), client(), handle_signals=False, job_completion_wait=0
            )
            here = InProcess(producer, redis, worker, asyncio.create_task(worker.async_run(), name="fetchq-worker"))
            try:
                yield here
            finally:
                await here.stop_worker()
    finally:
        await redis.aclose()
