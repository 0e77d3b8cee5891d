"""The pauses of a worker while Redis is unavailable."""

from __future__ import annotations

import logging
from typing import Final

logger = logging.getLogger("fetchq.engine")

FIRST_PAUSE_S: Final = 0.05
MAX_PAUSE_S: Final = 1.0


class Backoff:
    """Doubles the pause with each failure. Logs the first failure, and the first success after it."""

    def __init__(self) -> None:
        self._pause_s = 0.0

    def next_pause_s(self, problem: Exception) -> float:
        """The pause after a call that failed."""
        if not self._pause_s:
            logger.warning("redis.unavailable: %s", problem or type(problem).__name__)
        self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), MAX_PAUSE_S)
        return self._pause_s

    def reset(self) -> None:
        """A call succeeded."""
        if self._pause_s:
            self._pause_s = 0.0
            logger.warning("redis.available")
