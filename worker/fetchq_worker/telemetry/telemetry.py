"""What a worker tells of itself: to its subscribers and its log, to the queue's figures, and at `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from fetchq_worker.settings import TraceParent

from .events import WorkerStarted
from .measures import Measures, Reports
from .publisher import Publisher, Subscriber
from .traces import JobTraces

KEY: Final = "telemetry"
"""In the `ctx` of a worker."""


class Connections(NamedTuple):
    """Those of an HTTP client."""

    idle: int
    active: int


class Telemetry:
    """One worker's. A worker has it before it connects, and keeps it when it runs again."""

    __slots__ = ("_trace_parent", "connections", "events", "measures", "reports", "traces")

    def __init__(
        self, subscribers: Iterable[Subscriber] = (), trace_parent: str = TraceParent.LINK, *, measures: bool = False
    ) -> None:
        """`measures`: whether there is somebody to report them. Raises `TypeError` for a subscriber that cannot be one,
        and `ValueError` for an unknown `trace_parent`.
        """
        if trace_parent not in tuple(TraceParent):
            raise ValueError(f"trace_parent takes link or child, not {trace_parent!r}")
        self._trace_parent: Final = TraceParent(trace_parent)
        self.traces: JobTraces | None = None
        """Set where OpenTelemetry is set up."""
        self.events: Final = Publisher(subscribers)
        self.measures: Final = Measures() if measures else None
        self.reports: Final = None if self.measures is None else Reports(self.measures)
        self.connections: Callable[[], Connections] | None = None
        """Set where there is an HTTP client."""

    def start(self, *, worker: str, queue: str, concurrency: int, redis: str) -> None:
        """Publishes that the worker has started. Its jobs are traced if OpenTelemetry has been set up by now."""
        self.find_traces(queue=queue, redis=redis)
        self.events.publish(WorkerStarted(worker=worker, queue=queue, concurrency=concurrency, redis=redis))

    def find_traces(self, *, queue: str, redis: str) -> None:
        self.traces = JobTraces.find(queue=queue, redis=redis, parent=self._trace_parent)


_OF_NO_WORKER: Final = Telemetry()


def telemetry_of(ctx: dict[Any, Any]) -> Telemetry:
    """That of the worker which `ctx` belongs to; without one, log lines are all that is made of events."""
    found: Telemetry = ctx.get(KEY, _OF_NO_WORKER)
    return found
