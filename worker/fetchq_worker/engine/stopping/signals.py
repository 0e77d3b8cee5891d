"""The signals to a worker, and what each asks for (docs/job-lifecycle.md, Signals).

A handler of Python's, not only one of the event loop: it is called in the main thread although a job blocks the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from enum import Enum
from signal import Signals
from types import FrameType
from typing import Any, Final

logger = logging.getLogger("fetchq.engine")


class Request(Enum):
    """What a signal asks for."""

    STOP = "stop"
    """Claim no more, finish what runs within the grace time, then return the rest to the queue."""
    STOP_NOW = "stop now"
    """Return everything to the queue at once. A second `STOP` asks for it, too."""
    QUIET = "quiet"
    """Claim no more, and finish what runs, without a limit of time."""
    RESUME = "resume"
    """Claim again after `QUIET`."""


REQUESTS: Final = {
    number: request
    for name, request in {
        "SIGTERM": Request.STOP,
        "SIGINT": Request.STOP,
        "SIGHUP": Request.STOP,
        "SIGUSR1": Request.STOP,
        "SIGUSR2": Request.STOP,
        "SIGQUIT": Request.STOP_NOW,
        "SIGTSTP": Request.QUIET,
        "SIGCONT": Request.RESUME,
    }.items()
    if (number := getattr(signal, name, None)) is not None
}
"""The signals that a worker handles, on Windows fewer."""
ALWAYS_HANDLED: Final = frozenset({signal.SIGTERM, signal.SIGINT})
"""As arq does. The others only if they have their default action: nohup ignores SIGHUP, and a program may have uses of
its own for SIGUSR1."""


class SignalListener:
    """Passes signals on to one worker. Several in one process are all told."""

    _listening: Final[list[SignalListener]] = []
    _replaced: Final[dict[Signals, Any]] = {}

    def __init__(self, *, at_once: Callable[[Signals], None], in_loop: Callable[[Signals], None]) -> None:
        """`at_once` is called between any two instructions of the main thread: it must take no locks and not log."""
        self._at_once = at_once
        self._in_loop = in_loop
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Does nothing outside the main thread, where Python has no signals."""
        self._loop = loop
        if self in self._listening:
            return
        global _pid  # noqa: PLW0603 - of the process, as its signal handlers are
        try:
            if not self._listening:
                self._install()
                _pid = os.getpid()
        except ValueError:
            logger.debug("signals.ignored: the worker does not run in the main thread")
            return
        self._listening.append(self)

    def stop(self) -> None:
        """Restores the earlier handlers when no worker listens any more."""
        if self not in self._listening:
            return
        self._listening.remove(self)
        if not self._listening:
            with contextlib.suppress(ValueError):  # called from another thread than `start`
                for number, handler in self._replaced.items():
                    if signal.getsignal(number) is _on_signal:
                        signal.signal(number, handler)
                self._replaced.clear()

    @classmethod
    def _install(cls) -> None:
        for number in REQUESTS:
            handler = signal.getsignal(number)
            if number in ALWAYS_HANDLED or handler is signal.SIG_DFL:
                signal.signal(number, _on_signal)
                cls._replaced[number] = handler

    @classmethod
    def tell_all(cls, number: Signals) -> bool:
        """Returns whether there is a worker to tell: one whose event loop runs."""
        for listener in tuple(cls._listening):
            if listener._loop is None or not listener._loop.is_running():  # it has ended, and was not closed
                listener.stop()
                continue
            listener._at_once(number)
            listener._loop.call_soon_threadsafe(listener._in_loop, number)
        return bool(cls._listening)


_pid = os.getpid()


def _on_signal(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _pid:  # a process that a job has forked: the signal is for that alone
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    elif not SignalListener.tell_all(Signals(number)):
        signal.raise_signal(number)  # to the handler that is restored now
