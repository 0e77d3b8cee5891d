"""The metrics of the gateway's own process, and the requests that it has answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from prometheus_client import CollectorRegistry, Metric, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fetchq import __version__
from fetchq.command.loop_lag import LoopLag
from fetchq.inspect.exposition import CONTENT_TYPES, choose_format
from fetchq.inspect.families import Format

OTHER: Final = "other"
"""The route of requests for paths that do not exist."""


class ProcessMetrics(Collector):
    """What `/metrics` answers. Its registry is its own: prometheus-client's global one belongs to the user's app."""

    def __init__(self) -> None:
        self.requests: Final[Counter[tuple[str, int]]] = Counter()
        """Answered requests by route and status code."""
        self.lag: Final = LoopLag()
        self._registry: Final = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._registry.register(self)

    def text(self, accept: str) -> tuple[str, bytes]:
        """The content type and the text in the format that an Accept header asks for."""
        chosen = choose_format(accept)
        write: Any = generate_latest if chosen is Format.PROMETHEUS else exposition.generate_latest
        text: bytes = write(self._registry)
        return CONTENT_TYPES[chosen], text

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("fetchq_build_info", "The version of fetchq; the value is 1.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        requests = CounterMetricFamily(
            "fetchq_gateway_requests", "Answered requests by route and status code.", labels=["route", "code"]
        )
        for (route, code), count in sorted(self.requests.items()):
            requests.add_metric([route, str(code)], count)
        yield requests
        lag = GaugeMetricFamily(
            "fetchq_gateway_event_loop_lag_seconds", "The longest delay of the event loop in the last 15 s."
        )
        lag.add_metric([], self.lag.highest_s())
        yield lag


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
        self._metrics.lag.start()
        code = int(HTTPStatus.INTERNAL_SERVER_ERROR)  # where the app raises before it answers

        async def note_status(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            self._metrics.requests[self._routes.get(scope.get("endpoint"), OTHER), code] += 1
