"""Timeouts for many tasks at once, with one timer for each length of timeout.

Timeouts of one length end in the order in which they began, so that only the first of each length needs a timer.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final, Protocol, Self, cast


class Expires(Protocol):
    """What has a timeout."""

    def expire(self) -> None:
        """Called once, when the timeout ends."""


class _Running:
    """The timeouts of one length, in the order in which they end, each with the time at which it ends."""

    __slots__ = ("ends_at", "timer")

    def __init__(self) -> None:
        self.ends_at: dict[Expires, float] = {}
        self.timer: asyncio.TimerHandle | None = None


class Timeouts:
    """The timeouts of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Final = loop
        self._by_length: dict[float, _Running] = {}

    def __repr__(self) -> str:
        return f"<Timeouts running={sum(len(running.ends_at) for running in self._by_length.values())}>"

    def start(self, item: Expires, timeout_s: float) -> None:
        """Calls `item.expire()` after `timeout_s`, unless `stop` is called before."""
        running = self._by_length.get(timeout_s)
        if running is None:
            running = self._by_length[timeout_s] = _Running()
        running.ends_at[item] = ends_at = self._loop.time() + timeout_s
        if running.timer is None:
            running.timer = self._loop.call_at(ends_at, self._expire, running, timeout_s)

    def stop(self, item: Expires, timeout_s: float) -> None:
        """Ends a timeout of that length; one that has expired already is ignored."""
        running = self._by_length.get(timeout_s)
        if running is not None:
            running.ends_at.pop(item, None)

    def limit(self, timeout_s: float) -> Timeout:
        """`with timeouts.limit(s):` is `asyncio.timeout(s)` at a fraction of its cost."""
        return Timeout(self, timeout_s)

    def _expire(self, running: _Running, timeout_s: float) -> None:
        running.timer = None
        now = self._loop.time()
        while running.ends_at:
            item, ends_at = next(iter(running.ends_at.items()))
            if ends_at > now:
                running.timer = self._loop.call_at(ends_at, self._expire, running, timeout_s)
                return
            del running.ends_at[item]
            item.expire()
        del self._by_length[timeout_s]  # lengths come from requests: unused ones must not accumulate


class Timeout:
    """Cancels the task that enters it when the time is over, and raises `TimeoutError` in place of that cancellation.

    A cancellation by others stays a cancellation.
    """

    __slots__ = ("_cancelling", "_expired", "_task", "_timeout_s", "_timeouts")

    def __init__(self, timeouts: Timeouts, timeout_s: float) -> None:
        self._timeouts = timeouts
        self._timeout_s = timeout_s
        self._expired = False

    def __enter__(self) -> Self:
        self._task = task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._cancelling = task.cancelling()
        self._timeouts.start(self, self._timeout_s)
        return self

    def expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._expired:
            self._timeouts.stop(self, self._timeout_s)
        elif self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from problem
