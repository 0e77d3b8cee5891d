"""The pauses of a worker while Redis is unavailable."""

from __future__ import annotations

import logging
from typing import Final

from fetchq.store.errors import RedisFault, fault_of, reason_of

logger = logging.getLogger("fetchq.engine")

FIRST_PAUSE_S: Final = 0.05
MAX_PAUSE_S: Final = 1.0


class Backoff:
    """Doubles the pause with each failure. Logs the first failure of each kind, and the first success after it."""

    def __init__(self) -> None:
        self._pause_s = 0.0
        self._fault: RedisFault | None = None

    def next_pause_s(self, problem: Exception) -> float:
        """The pause after a call that failed."""
        if (fault := fault_of(problem)) is not self._fault:
            self._fault = fault
            if fault.passes:
                logger.warning("redis.unavailable error=%s", reason_of(problem))
            else:
                logger.error("redis.refused error=%s", reason_of(problem))
        self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), MAX_PAUSE_S)
        return self._pause_s

    def reset(self) -> None:
        """A call succeeded."""
        if self._pause_s:
            self._pause_s, self._fault = 0.0, None
            logger.warning("redis.available")
