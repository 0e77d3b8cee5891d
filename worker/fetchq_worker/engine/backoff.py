"""The pauses of a worker while Redis is unavailable."""

from __future__ import annotations

from typing import Final

from fetchq.store.errors import RedisFault, fault_of, reason_of
from fetchq_worker.telemetry.events import RedisAvailable, RedisUnavailable
from fetchq_worker.telemetry.publisher import Publisher

FIRST_PAUSE_S: Final = 0.05
MAX_PAUSE_S: Final = 1.0


class Backoff:
    """Doubles the pause with each failure. Publishes the first failure of each kind, and the first success after it."""

    def __init__(self, events: Publisher) -> None:
        self._events: Final = events
        self._pause_s = 0.0
        self._fault: RedisFault | None = None

    def next_pause_s(self, problem: Exception) -> float:
        """The pause after a call that failed."""
        if (fault := fault_of(problem)) is not self._fault:
            self._fault = fault
            self._events.publish(RedisUnavailable(error=reason_of(problem), refused=not fault.passes))
        self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), MAX_PAUSE_S)
        return self._pause_s

    def reset(self) -> None:
        """A call succeeded."""
        if self._pause_s:
            self._pause_s, self._fault = 0.0, None
            self._events.publish(RedisAvailable())
