"""How a command reaches Redis: with short timeouts, since a person or a health check waits for its exit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Unpack

from redis.asyncio import Redis

from fetchq import Producer
from fetchq.client.write.policy import WriteOptions
from fetchq.command.redis_answer import wait_for_answer
from fetchq.store.connection import connect
from fetchq_worker.settings import Settings

REPLY_S: Final = 10.0
"""Longest wait for each later one, which may carry megabytes."""


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
