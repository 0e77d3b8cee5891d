"""The gateway as an ASGI app: served by `fetchq serve`, or mounted in an app of the user's."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from http import HTTPStatus
from typing import Final

from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fetchq.errors import FetchqError, InvalidRequest, RedisRefused, RedisUnavailable
from fetchq.store.errors import translated
from fetchq.store.keys import DEFAULT_QUEUE, Keys, check_namespace, check_queue

from .host_check import HostCheck
from .process_metrics import ProcessMetrics, RequestCount
from .queue_figures import QueueFiguresText

READY_WITHIN_S: Final = 0.8
"""How long `/readyz` waits for Redis: less than the second that Kubernetes waits for its answer."""
INDEX: Final = """\
fetchq gateway
/metrics/queue  the figures of the queues for Prometheus, to be scraped once
/metrics        the figures of this process
/livez          whether this process works
/readyz         whether Redis answers it
"""
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def gateway_app(
    redis: Redis,
    *,
    queues: Collection[str] = (DEFAULT_QUEUE,),
    namespace: str = "",
    allow_hosts: Collection[str] | None = None,
) -> Starlette:
    """The app, for any number of queues in one Redis.

    `redis` stays the caller's, who closes it after the last request; it must not decode responses. Where `allow_hosts`
    is given, only requests for these hosts and for loopback are answered; None: for any, since the app that mounts this
    one decides. There is no login. Raises `InvalidRequest` for a bad name.
    """
    if isinstance(queues, str) or not queues:
        raise InvalidRequest("queues", "takes a list of one name or more")
    if redis.connection_pool.connection_kwargs.get("decode_responses"):
        raise FetchqError("the Redis client decodes responses: make it without decode_responses")
    for name in queues:
        check_queue(name)
    check_namespace(namespace)
    keys = [Keys(queue=name, namespace=namespace) for name in dict.fromkeys(queues)]
    metrics = ProcessMetrics()
    gateway = _Gateway(redis, QueueFiguresText(redis, keys), metrics)
    routes = [
        Route("/", gateway.answer_index),
        Route("/livez", gateway.answer_livez),
        Route("/readyz", gateway.answer_readyz),
        Route("/metrics", gateway.answer_metrics),
        Route("/metrics/queue", gateway.answer_queue_metrics),
    ]
    middleware = [Middleware(RequestCount, metrics, {route.endpoint: route.path for route in routes})]
    if allow_hosts is not None:
        middleware.append(Middleware(HostCheck, allow_hosts))
    app = Starlette(routes=routes, middleware=middleware)
    app.router.redirect_slashes = False  # it would redirect to the host that the request names
    return app


class _Gateway:
    """What each path answers."""

    def __init__(self, redis: Redis, figures: QueueFiguresText, metrics: ProcessMetrics) -> None:
        self._redis: Final = redis
        self._figures: Final = figures
        self._metrics: Final = metrics

    async def answer_index(self, _request: Request) -> Response:
        return _text(INDEX)

    async def answer_livez(self, _request: Request) -> Response:
        """Whether the event loop runs. Redis is no part of it: a restart would not help."""
        return _text("the gateway is alive\n")

    async def answer_readyz(self, _request: Request) -> Response:
        """Whether Redis answers now."""
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                with translated(self._redis):
                    await self._redis.ping()
        except TimeoutError:
            return _unavailable(f"Redis has not answered within {READY_WITHIN_S:g} s")
        except (RedisUnavailable, RedisRefused) as problem:
            return _unavailable(str(problem))
        return _text("the gateway is ready\n")

    async def answer_metrics(self, request: Request) -> Response:
        return _metrics(*self._metrics.text(_accept(request)))

    async def answer_queue_metrics(self, request: Request) -> Response:
        try:
            return _metrics(*await self._figures.read(_accept(request)))
        except (RedisUnavailable, RedisRefused) as problem:
            return _unavailable(str(problem))


def _accept(request: Request) -> str:
    return ", ".join(request.headers.getlist("accept"))


def _text(text: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return PlainTextResponse(text, status, _HEADERS)


def _unavailable(sentence: str) -> Response:
    return _text(f"{sentence}\n", HTTPStatus.SERVICE_UNAVAILABLE)


def _metrics(content_type: str, text: bytes) -> Response:
    return Response(text, headers={**_HEADERS, "Content-Type": content_type, "Vary": "Accept"})
