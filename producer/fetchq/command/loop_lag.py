"""How late an event loop is: what blocks it delays all that it runs."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

EVERY_S: Final = 0.25
KEPT_S: Final = 15.0
"""As long as Prometheus's usual interval between two scrapes, so that a scrape sees every delay."""


class LoopLag:
    """Measures by a timer how late the event loop calls it. It runs until `stop`, from the first `start`."""

    def __init__(self) -> None:
        self._delays: Final[deque[tuple[float, float]]] = deque()
        """Time and delay; only those that no later one exceeds, so the first is the highest."""
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def start(self) -> None:
        if self._timer is None:
            self._arm(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def highest_s(self) -> float:
        """The longest delay of the last `KEPT_S`."""
        return self._delays[0][1] if self._delays else 0.0

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_s = loop.time() + EVERY_S
        self._timer = loop.call_at(self._due_s, self._measure, loop)

    def _measure(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = loop.time()
        self._note(now_s, max(0.0, now_s - self._due_s))
        self._arm(loop)

    def _note(self, now_s: float, delay_s: float) -> None:
        while self._delays and self._delays[-1][1] <= delay_s:
            self._delays.pop()
        self._delays.append((now_s, delay_s))
        while self._delays[0][0] < now_s - KEPT_S:
            self._delays.popleft()
