"""Timeouts for many tasks, with one timer for each length of timeout.

Timeouts of one length end in the order in which they began, so only the first of each length needs a timer.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final, Protocol, Self, cast


class Expires(Protocol):
    """An object with a timeout."""

    def expire(self) -> None:
        """Called once, when the timeout ends."""


class _Queue:
    """The running timeouts of one length, in the order of their ends, each with its end."""

    __slots__ = ("_loop", "_queues", "_timeout_s", "_timer", "running")

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float, queues: dict[float, _Queue]) -> None:
        self.running: dict[Expires, float] = {}
        self._loop = loop
        self._timeout_s = timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._queues = queues

    def start(self, item: Expires) -> None:
        self.running[item] = ends_at = self._loop.time() + self._timeout_s
        if self._timer is None:
            self._timer = self._loop.call_at(ends_at, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self.running:
            item, ends_at = next(iter(self.running.items()))
            if ends_at > now:
                self._timer = self._loop.call_at(ends_at, self._expire)
                return
            del self.running[item]
            item.expire()
        self._queues.pop(self._timeout_s, None)  # lengths come from requests: unused ones must not accumulate


class Timeouts:
    """The timeouts of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Final = loop
        self._queues: dict[float, _Queue] = {}

    def __repr__(self) -> str:
        return f"<Timeouts running={sum(len(queue.running) for queue in self._queues.values())}>"

    def start(self, item: Expires, timeout_s: float) -> None:
        """Calls `item.expire()` after `timeout_s`, unless `stop` is called before."""
        (self._queues.get(timeout_s) or self._new_queue(timeout_s)).start(item)

    def stop(self, item: Expires, timeout_s: float) -> None:
        """Ends a timeout of that length; one that has expired already is ignored."""
        queue = self._queues.get(timeout_s)
        if queue is not None:
            queue.running.pop(item, None)

    def limit(self, timeout_s: float) -> Timeout:
        """`with timeouts.limit(s):` is `asyncio.timeout(s)` at a fraction of its cost. It must be entered at once."""
        return Timeout(self._loop, self._queues.get(timeout_s) or self._new_queue(timeout_s))

    def _new_queue(self, timeout_s: float) -> _Queue:
        queue = self._queues[timeout_s] = _Queue(self._loop, timeout_s, self._queues)
        return queue


class Timeout:
    """Cancels the task that enters it when the time is over, and raises `TimeoutError` in place of that cancellation.

    A cancellation by another caller stays a cancellation.
    """

    __slots__ = ("_cancelling", "_expired", "_loop", "_queue", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop, queue: _Queue) -> None:
        self._loop = loop
        self._queue = queue
        self._expired = False

    def __enter__(self) -> Self:
        self._task = task = cast("asyncio.Task[Any]", asyncio.current_task(self._loop))
        self._cancelling = task.cancelling()
        self._queue.start(self)
        return self

    def expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._expired:
            del self._queue.running[self]
        elif self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from problem
