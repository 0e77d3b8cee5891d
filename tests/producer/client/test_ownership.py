"""A producer belongs to one event loop and process: calls from others are refused before anything is sent."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.support.redis_server import RedisServer

from fetchq import FetchqError, Producer
from fetchq.store.connection import connect

URL = "https://example.org/"
REFUSAL = "another event loop, thread or process, and nothing was sent"

CALLS: dict[str, Callable[[Producer], Awaitable[Any]]] = {
    "ping": lambda producer: producer.ping(),
    "enqueue": lambda producer: producer.enqueue(URL),
    "enqueue_many": lambda producer: producer.enqueue_many([URL]),
    "enqueue_each": lambda producer: producer.enqueue_each([URL]),
    "enqueue_job": lambda producer: producer.enqueue_job("f"),
    "status": lambda producer: producer.status("a"),
    "result": lambda producer: producer.job("a").result(timeout_s=1),
    "result at once": lambda producer: producer.job("a").result(timeout_s=0),
    "as_completed": lambda producer: anext(producer.as_completed([producer.job("a")])),
    "cancel_many": lambda producer: producer.cancel_many(["a"]),
    "cancel_all": lambda producer: anext(producer.cancel_all()),
    "pause": lambda producer: producer.pause(),
    "hosts": lambda producer: producer.hosts(),
    "limits": lambda producer: producer.limits.set("*", concurrency=1),
    "dead letters": lambda producer: producer.dead_letters.count(),
}


def refusal_of(producer: Producer, name: str = "enqueue") -> str:
    """The error of a call in another event loop."""

    async def call() -> None:
        await CALLS[name](producer)

    with pytest.raises(FetchqError) as refusal:
        asyncio.run(call())
    return str(refusal.value)


async def keys_with(client: Redis) -> list[bytes]:
    keys: list[bytes] = await client.keys("*")
    return keys


async def keys_in(server: RedisServer) -> list[bytes]:
    async with connect(server.url) as admin:
        return await keys_with(admin)


@pytest.mark.parametrize("name", CALLS)
def test_a_second_event_loop_is_refused_before_anything_is_sent(redis_server: RedisServer, name: str) -> None:
    producer = Producer.from_url(redis_server.url)
    with asyncio.Runner() as own:
        own.run(producer.ping())
        assert REFUSAL in refusal_of(producer, name)
        assert own.run(keys_in(redis_server)) == []
        own.run(producer.aclose())


def test_a_producer_that_was_only_made_elsewhere_is_free(redis_server: RedisServer) -> None:
    async def enqueue(producer: Producer) -> None:
        async with producer:
            await producer.enqueue(URL)

    asyncio.run(enqueue(Producer.from_url(redis_server.url)))


@pytest.mark.asyncio
async def test_a_second_thread_is_refused_while_the_first_continues(redis_server: RedisServer) -> None:
    async with Producer.from_url(redis_server.url) as producer, asyncio.timeout(30):
        await producer.enqueue(URL)
        refusals: list[str] = []

        def call() -> None:
            async def enqueue() -> None:
                await producer.enqueue(URL)

            try:
                asyncio.run(enqueue())
            except FetchqError as problem:
                refusals.append(str(problem))

        thread = threading.Thread(target=call)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert REFUSAL in refusals[0]
        await producer.enqueue(URL)
        async with connect(redis_server.url) as admin:
            assert await admin.zcard("arq:queue") == 2


def test_a_child_after_a_fork_is_refused(redis_server: RedisServer) -> None:
    producer = Producer.from_url(redis_server.url)
    with asyncio.Runner() as own:
        own.run(producer.ping())
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            try:
                os._exit(0 if REFUSAL in refusal_of(producer) else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert own.run(keys_in(redis_server)) == []
        own.run(producer.aclose())


def test_closing_in_another_event_loop_only_ends_its_use(redis_server: RedisServer) -> None:
    producer = Producer.from_url(redis_server.url)
    with asyncio.Runner() as own:
        own.run(producer.ping())
        asyncio.run(producer.aclose())
        with pytest.raises(FetchqError, match="closed"):
            own.run(producer.ping())
        own.run(producer.aclose())


def test_a_client_that_is_connected_in_another_event_loop_is_refused_before_anything_is_sent(
    redis_server: RedisServer,
) -> None:
    client: Redis = connect(redis_server.url)
    with asyncio.Runner() as own:
        own.run(keys_with(client))
        assert "the Redis client belongs to another event loop" in refusal_of(Producer(client))
        assert own.run(keys_in(redis_server)) == []
        own.run(client.aclose())
