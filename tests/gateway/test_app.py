"""What the gateway answers, as an app of its own and mounted in another."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.support.redis_server import RedisServer

from fetchq.store.connection import connect
from fetchq_gateway import gateway_app

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def redis(own_redis_server: RedisServer) -> AsyncIterator[Redis]:
    client: Redis = connect(own_redis_server.url)
    yield client
    await client.aclose()


def client_of(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def test_it_is_ready_as_long_as_redis_answers_and_alive_without_it(
    redis: Redis, own_redis_server: RedisServer
) -> None:
    async with client_of(gateway_app(redis)) as client:
        assert (await client.get("/readyz")).text == "the gateway is ready\n"
        own_redis_server.stop()
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert str(own_redis_server.socket) in answer.text
        assert (await client.get("/livez")).status_code == 200
        own_redis_server.start()
        assert (await client.get("/readyz")).status_code == 200


async def test_it_can_be_mounted_in_another_app(redis: Redis) -> None:
    async with client_of(Starlette(routes=[Mount("/fetchq", gateway_app(redis))])) as client:
        assert (await client.get("/fetchq/livez")).status_code == 200
        assert (await client.get("/livez")).status_code == 404
