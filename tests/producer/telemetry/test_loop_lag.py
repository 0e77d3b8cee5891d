"""How late the event loop calls a timer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from fetchq.telemetry import loop_lag
from fetchq.telemetry.loop_lag import BUSY_S, IDLE_S, WINDOW_S, LoopLag


class _Timers:
    """An event loop's timers, which the test calls, and its clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.paused: list[float] = []
        self._measure: Callable[[], Any] = lambda: None
        monkeypatch.setattr(loop_lag, "monotonic", lambda: self.now)

    def call_later(self, pause_s: float, call: Callable[[], Any]) -> None:
        self.paused.append(pause_s)
        self._measure = call

    def expire(self, late_s: float) -> None:
        self.now += self.paused[-1] + late_s
        self._measure()


def test_the_highest_lag_of_the_last_seconds_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    timers = _Timers(monkeypatch)
    lag = LoopLag(timers, lambda: True)  # type: ignore[arg-type]
    lag.start()
    assert lag.highest_s == 0.0
    for late_s in (0.0, 0.7, 0.2, 0.4, 0.1):
        timers.expire(late_s)
    assert lag.highest_s == pytest.approx(0.7)
    timers.now += WINDOW_S - 0.8
    assert lag.highest_s == pytest.approx(0.4), "the highest one is too old"
    timers.now += WINDOW_S
    assert lag.highest_s == 0.0


def test_an_idle_worker_wakes_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    timers, busy = _Timers(monkeypatch), [True, False, True]
    lag = LoopLag(timers, lambda: busy.pop(0))  # type: ignore[arg-type]
    lag.start()
    timers.expire(0.0)
    timers.expire(0.0)
    assert timers.paused == [BUSY_S, IDLE_S, BUSY_S]


@pytest.mark.asyncio
async def test_a_call_that_blocks_is_measured() -> None:
    lag = LoopLag(asyncio.get_running_loop(), lambda: True)
    lag.start()
    time.sleep(BUSY_S + 0.3)  # noqa: ASYNC251 - what a job must not do
    while not lag.highest_s:
        await asyncio.sleep(0)
    assert lag.highest_s >= 0.29
    lag.stop()
