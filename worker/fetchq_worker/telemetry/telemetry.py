"""What a worker tells of itself: to its subscribers and its log, to the queue's figures, and at `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from .measures import Measures, Reports
from .publisher import Publisher, Subscriber

KEY: Final = "telemetry"
"""In the `ctx` of a worker."""


class Connections(NamedTuple):
    """Those of an HTTP client."""

    idle: int
    active: int


class Telemetry:
    """One worker's. A worker has it before it connects, and keeps it when it runs again."""

    __slots__ = ("connections", "events", "measures", "reports")

    def __init__(self, subscribers: Iterable[Subscriber] = (), *, measures: bool = False) -> None:
        """`measures`: whether there is somebody to report them. Raises `TypeError` for a subscriber that is none."""
        self.events: Final = Publisher(subscribers)
        self.measures: Final = Measures() if measures else None
        self.reports: Final = None if self.measures is None else Reports(self.measures)
        self.connections: Callable[[], Connections] | None = None
        """Set where there is an HTTP client."""


_OF_NO_WORKER: Final = Telemetry()


def telemetry_of(ctx: dict[Any, Any]) -> Telemetry:
    """That of the worker which `ctx` belongs to; without one, log lines are all that is made of events."""
    found: Telemetry = ctx.get(KEY, _OF_NO_WORKER)
    return found
