"""How long attempts may take: `asyncio.timeout` for many at once, at a fraction of its cost.

Limits of one length end in the order in which they began, so that only the first of each length needs a timer.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final, Self, cast


class TimeLimits:
    """The limits of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Final = loop
        self._queues: dict[float, _Queue] = {}

    def __repr__(self) -> str:
        return f"<TimeLimits running={sum(len(queue.running) for queue in self._queues.values())}>"

    def limit(self, seconds: float) -> TimeLimit:
        """To be entered at once: `with limits.limit(s):` cancels what takes longer and raises `TimeoutError` in place
        of that cancellation. One by anybody else stays what it is."""
        queue = self._queues.get(seconds)
        if queue is None:
            queue = self._queues[seconds] = _Queue(self._loop, seconds, self._queues)
        return TimeLimit(queue)


class _Queue:
    """The limits of one length that are running, in the order in which they end."""

    __slots__ = ("_among", "_timer", "loop", "running", "seconds")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, among: dict[float, _Queue]) -> None:
        self.loop = loop
        self.seconds = seconds
        self.running: dict[TimeLimit, None] = {}
        self._among = among
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, ends_at: float) -> None:
        if self._timer is None:
            self._timer = self.loop.call_at(ends_at, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self.loop.time()
        while self.running:
            first = next(iter(self.running))
            if first.ends_at > now:
                self.watch(first.ends_at)
                return
            del self.running[first]
            first.expire()
        del self._among[self.seconds]  # lengths are the callers' own: one that is no longer in use must not stay


class TimeLimit:
    """One limit, about the task that enters it."""

    __slots__ = ("_cancelling", "_expired", "_queue", "_task", "ends_at")

    def __init__(self, queue: _Queue) -> None:
        self._queue = queue
        self._expired = False

    def __enter__(self) -> Self:
        queue = self._queue
        self._task = task = cast("asyncio.Task[Any]", asyncio.current_task(queue.loop))
        self._cancelling = task.cancelling()
        self.ends_at = ends_at = queue.loop.time() + queue.seconds
        queue.running[self] = None
        queue.watch(ends_at)
        return self

    def expire(self) -> None:
        """The time is up."""
        self._expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._expired:
            del self._queue.running[self]
        elif self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from problem
