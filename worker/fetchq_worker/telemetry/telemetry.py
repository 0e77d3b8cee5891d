"""What a worker tells of itself: to its subscribers and its log, to the queue's figures, and at `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from fetchq_worker.settings import Traces

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

    __slots__ = ("_how", "connections", "events", "measures", "reports", "traces")

    def __init__(
        self, subscribers: Iterable[Subscriber] = (), traces: str = Traces.LINK, *, measures: bool = False
    ) -> None:
        """`measures`: whether there is somebody to report them. Raises `TypeError` for a subscriber that cannot be one,
        and `ValueError` for an unknown value of `traces`.
        """
        if traces not in tuple(Traces):
            raise ValueError(f"traces takes link, child or off, not {traces!r}")
        self._how: Final = Traces(traces)
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
        """Traces jobs from now on, if OpenTelemetry has been set up."""
        if self._how is not Traces.OFF:
            self.traces = JobTraces.find(queue=queue, redis=redis, as_child=self._how is Traces.CHILD)


_OF_NO_WORKER: Final = Telemetry()


def telemetry_of(ctx: dict[Any, Any]) -> Telemetry:
    """That of the worker which `ctx` belongs to; without one, log lines are all that is made of events."""
    found: Telemetry = ctx.get(KEY, _OF_NO_WORKER)
    return found
