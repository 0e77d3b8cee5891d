"""How a command reaches Redis. Somebody waits at a terminal, or a health check does: they are told soon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Unpack

from redis.asyncio import Redis

from fetchq import Producer, RedisUnavailable
from fetchq.client.write_policy import WriteOptions
from fetchq.store.connection import connect
from fetchq.store.errors import place_of, translated
from fetchq_worker.settings import Settings

ANSWER_S: Final = 5.0
"""How long Redis may take for its first answer."""
REPLY_S: Final = 10.0
"""How long it may take for each later one, which may have megabytes to carry."""


async def wait_for_answer(redis: Redis, timeout_s: float = ANSWER_S) -> None:
    """Returns when Redis answers; raises `RedisUnavailable` or `RedisRefused`."""
    with translated(redis):
        try:
            async with asyncio.timeout(timeout_s):
                await redis.ping()
        except TimeoutError as problem:  # before `translated`, for which it would be any OSError
            raise RedisUnavailable(f"Redis at {place_of(redis)} has not answered within {timeout_s:g} s") from problem


@asynccontextmanager
async def reached_producer(
    settings: Settings, *, answer_s: float = ANSWER_S, **options: Unpack[WriteOptions]
) -> AsyncIterator[Producer]:
    """A producer on a Redis that has answered; raises `RedisUnavailable` or `RedisRefused`."""
    redis: Redis = connect(settings.redis_url, socket_timeout_s=REPLY_S)
    try:
        await wait_for_answer(redis, answer_s)
        async with Producer(redis, queue=settings.queue, **options) as producer:
            yield producer
    finally:
        await redis.aclose()
