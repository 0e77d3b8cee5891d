"""Publishes events to the subscribers of a worker."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Final

from .event_log import EventLog
from .events import AnyEvent

logger = logging.getLogger("fetchq.engine")

Subscriber = Callable[[AnyEvent], object]
"""Called with each event, in the event loop and often in the task of a job: it must return soon, and not await."""

QUIET_S: Final = 60.0
"""How long a subscriber that raises the same type again is not logged."""
MAX_FAILURE_KINDS: Final = 100


class Publisher:
    """The subscribers of one worker, and its log lines."""

    __slots__ = ("_failures", "_subscribers", "log", "wanted")

    def __init__(self, subscribers: Iterable[Subscriber] = ()) -> None:
        """Raises `TypeError` for a subscriber that cannot be called, or is a coroutine function."""
        self.log: Final = EventLog()
        self.wanted = False
        """Whether events that occur for each job or attempt are made."""
        self._subscribers: tuple[Subscriber, ...] = ()
        self._failures: dict[tuple[int, str], tuple[float, int]] = {}
        """When each kind of failure was last logged, and how many there were since."""
        if not isinstance(subscribers, Iterable):
            raise TypeError(f"subscribers takes a list of callables, not {_name_of(subscribers)}")
        for subscriber in subscribers:
            self.subscribe(subscriber)

    def __repr__(self) -> str:
        return f"<Publisher subscribers={len(self._subscribers)}>"

    def subscribe(self, subscriber: Subscriber) -> None:
        """Raises `TypeError` as the constructor."""
        if not callable(subscriber):
            raise TypeError(f"subscribers: {type(subscriber).__name__} is not callable")
        if inspect.iscoroutinefunction(subscriber) or inspect.iscoroutinefunction(type(subscriber).__call__):
            raise TypeError(f"subscribers: {_name_of(subscriber)} is a coroutine function; a subscriber must not await")
        self._subscribers = (*self._subscribers, subscriber)
        self.wanted = True

    def publish(self, event: AnyEvent) -> None:
        """Logs the event and calls every subscriber. What one raises is logged, and harms neither job nor others."""
        self.log.write(event)
        for place, subscriber in enumerate(self._subscribers):
            try:
                returned = subscriber(event)
                if returned is not None and (problem := _as_problem(returned)) is not None:
                    self._report(place, subscriber, event, problem)
            except KeyboardInterrupt:
                raise  # a SIGINT that arrived meanwhile
            except BaseException as raised:  # noqa: BLE001 - the user's code may raise anything
                self._report(place, subscriber, event, raised)

    def _report(self, place: int, subscriber: Subscriber, event: AnyEvent, problem: BaseException) -> None:
        kind = (place, type(problem).__qualname__)
        if kind not in self._failures and len(self._failures) >= MAX_FAILURE_KINDS:
            kind = (place, "")
        now = monotonic()
        logged_at, count = self._failures.get(kind, (float("-inf"), 0))
        if now - logged_at < QUIET_S:
            self._failures[kind] = (logged_at, count + 1)
            return
        self._failures[kind] = (now, 0)
        logger.error(
            "subscriber.failed subscriber=%s event=%s failures=%d error=%s",
            _name_of(subscriber),
            type(event).__name__,
            count + 1,
            type(problem).__qualname__,
            exc_info=problem,
        )


def _as_problem(returned: object) -> TypeError | None:
    """What is wrong with the value that a subscriber returned. A coroutine is closed; a task needs no awaiting."""
    if not inspect.isawaitable(returned) or isinstance(returned, asyncio.Future):
        return None
    if inspect.iscoroutine(returned):
        returned.close()
    return TypeError(f"the subscriber returned a {type(returned).__name__}, which is not awaited: start a task instead")


def _name_of(subscriber: Any) -> str:
    name = getattr(subscriber, "__qualname__", None) or type(subscriber).__qualname__
    return f"{getattr(subscriber, '__module__', '?')}.{name}"
