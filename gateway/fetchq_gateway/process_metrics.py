"""The metrics of the gateway's own process, and the requests that it has answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fetchq import __version__
from fetchq.inspect.exposition import CONTENT_TYPES, choose_format, encode
from fetchq.inspect.families import Family, Kind, Sample
from fetchq.inspect.python_metrics import python_families
from fetchq.telemetry.loop_lag import LoopLag

OTHER: Final = "other"
"""The route of requests for paths that do not exist."""


class ProcessMetrics:
    """What `/metrics` answers."""

    def __init__(self) -> None:
        self._requests: Final[Counter[tuple[str, int]]] = Counter()
        """Answered requests by route and status code."""
        self._lag: LoopLag | None = None

    def start(self) -> None:
        """Measures from now on how late the event loop is."""
        if self._lag is None:
            self._lag = LoopLag(asyncio.get_running_loop(), lambda: False)
            self._lag.start()

    def count(self, route: str, code: int) -> None:
        self._requests[route, code] += 1

    def text(self, accept: str) -> tuple[str, bytes]:
        """The content type and the text in the format that an Accept header asks for."""
        chosen = choose_format(accept)
        return CONTENT_TYPES[chosen], encode([*self._families(), *python_families()], chosen)

    def _families(self) -> list[Family]:
        lag_s = 0.0 if self._lag is None else self._lag.highest_s
        requests = tuple(Sample((route, str(code)), count) for (route, code), count in sorted(self._requests.items()))
        return [
            Family(
                "fetchq_build_info",
                Kind.GAUGE,
                "The version of fetchq; the value is 1.",
                ("version",),
                (Sample((__version__,), 1),),
            ),
            Family(
                "fetchq_gateway_requests_total",
                Kind.COUNTER,
                "Answered requests by route and status code.",
                ("route", "code"),
                requests,
            ),
            Family(
                "fetchq_gateway_event_loop_lag_seconds",
                Kind.GAUGE,
                "How late the event loop called a timer, at most, in the last 15 s.",
                (),
                (Sample((), lag_s),),
            ),
        ]


class RequestCount:
    """Counts the requests of an app by route and status code; whatever is asked for, there are few of either."""

    def __init__(self, app: ASGIApp, metrics: ProcessMetrics, routes: Mapping[Any, str]) -> None:
        """`routes`: the path of each endpoint."""
        self._app: Final = app
        self._metrics: Final = metrics
        self._routes: Final = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._metrics.start()
        code = int(HTTPStatus.INTERNAL_SERVER_ERROR)  # where the app raises before it answers

        async def note_status(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            self._metrics.count(self._routes.get(scope.get("endpoint"), OTHER), code)
