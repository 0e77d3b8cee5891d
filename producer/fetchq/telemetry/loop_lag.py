"""How late the event loop calls a timer: by how long jobs that compute, or block, delay all others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

WINDOW_S: Final = 15.0
BUSY_S: Final = 0.1
IDLE_S: Final = 1.0


class LoopLag:
    """Measures one event loop, while it is started: ten times a second while jobs run, else once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, is_busy: Callable[[], bool]) -> None:
        self._loop: Final = loop
        self._is_busy: Final = is_busy
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._highest: deque[tuple[float, float]] = deque()
        """When each lag was measured, and the lag: only those that no later one exceeds, the highest first."""

    def start(self) -> None:
        if self._timer is None:
            self._schedule()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def highest_s(self) -> float:
        """The highest lag within `WINDOW_S`, in seconds."""
        self._forget(monotonic())
        return self._highest[0][1] if self._highest else 0.0

    def _schedule(self) -> None:
        pause_s = BUSY_S if self._is_busy() else IDLE_S
        self._due_at = monotonic() + pause_s
        self._timer = self._loop.call_later(pause_s, self._measure)

    def _measure(self) -> None:
        now = monotonic()
        lag_s = max(0.0, now - self._due_at)
        while self._highest and self._highest[-1][1] <= lag_s:
            self._highest.pop()
        self._highest.append((now, lag_s))
        self._forget(now)
        self._schedule()

    def _forget(self, now: float) -> None:
        while self._highest and self._highest[0][0] < now - WINDOW_S:
            self._highest.popleft()
