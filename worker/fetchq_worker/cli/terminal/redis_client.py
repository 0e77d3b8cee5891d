"""How a command reaches Redis: with short timeouts, since a person or a health check waits for its exit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Unpack

from redis.asyncio import Redis

from fetchq import Producer, RedisUnavailable
from fetchq.client.write.policy import WriteOptions
from fetchq.store.connection import connect
from fetchq.store.errors import address_of, translated
from fetchq_worker.settings import Settings

ANSWER_S: Final = 5.0
"""Longest wait for Redis's first reply."""
REPLY_S: Final = 10.0
"""Longest wait for each later one, which may carry megabytes."""


async def wait_for_answer(redis: Redis, timeout_s: float | None = None) -> None:
    """Waits for the reply to a PING; raises `RedisUnavailable` or `RedisRefused`."""
    timeout_s = ANSWER_S if timeout_s is None else min(timeout_s, ANSWER_S)
    with translated(redis):
        try:
            async with asyncio.timeout(timeout_s):
                await redis.ping()
        except TimeoutError as problem:  # before `translated`, for which it would be any OSError
            raise RedisUnavailable(f"Redis at {address_of(redis)} has not answered within {timeout_s:g} s") from problem


@asynccontextmanager
async def reached_producer(
    settings: Settings, *, answer_s: float | None = None, **options: Unpack[WriteOptions]
) -> AsyncIterator[Producer]:
    """A producer on a Redis that has replied; raises `RedisUnavailable` or `RedisRefused`."""
    redis: Redis = connect(settings.redis_url, socket_timeout_s=REPLY_S)
    try:
        await wait_for_answer(redis, answer_s)
        async with Producer(redis, queue=settings.queue, namespace=settings.namespace, **options) as producer:
            yield producer
    finally:
        await redis.aclose()
