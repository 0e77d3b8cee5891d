"""The gateway as an ASGI app: served by `fetchq serve`, or mounted in an app of the user's."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from fetchq import RedisRefused, RedisUnavailable
from fetchq.store.errors import translated

READY_WITHIN_S: Final = 0.8
"""How long `/readyz` waits for Redis: less than the second that Kubernetes waits for its answer."""


def gateway_app(redis: Redis) -> Starlette:
    """The app. `redis` stays the caller's: he closes it after the last request."""
    gateway = _Gateway(redis)
    return Starlette(routes=[Route("/livez", gateway.answer_livez), Route("/readyz", gateway.answer_readyz)])


class _Gateway:
    """What the paths answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Final = redis

    async def answer_livez(self, _request: Request) -> PlainTextResponse:
        """Whether the event loop runs. Redis is no part of it: a restart would not help."""
        return _line(HTTPStatus.OK, "the gateway is alive")

    async def answer_readyz(self, _request: Request) -> PlainTextResponse:
        """Whether Redis answers now."""
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                with translated(self._redis):
                    await self._redis.ping()
        except TimeoutError:
            return _line(HTTPStatus.SERVICE_UNAVAILABLE, f"Redis has not answered within {READY_WITHIN_S:g} s")
        except (RedisUnavailable, RedisRefused) as problem:
            return _line(HTTPStatus.SERVICE_UNAVAILABLE, str(problem))
        return _line(HTTPStatus.OK, "the gateway is ready")


def _line(status: HTTPStatus, text: str) -> PlainTextResponse:
    return PlainTextResponse(f"{text}\n", status, {"Cache-Control": "no-store"})
