"""Ends the process of a worker that was told to stop and cannot, since a job blocks its event loop or never ends."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Final

logger = logging.getLogger("fetchq.engine")

TICK_S: Final = 0.05
FRAMES_SHOWN: Final = 4
LAST_WORDS_S: Final = 3.0
"""Time for returning the jobs and for the log, which may be what the process hangs in."""


class ExitGuard:
    """A timer outside the event loop. When it ends, the jobs are returned and the process exits.

    `arm` may be called by a signal handler. So nothing here takes a lock that the interrupted code may hold.
    """

    def __init__(self, return_jobs: Callable[[], int]) -> None:
        """`return_jobs` is called in another thread; it returns how many jobs went back to the queue, or raises."""
        self._return_jobs = return_jobs
        self._status = 1
        self._ends_at: float | None = None
        self._watching = False

    def __repr__(self) -> str:
        return f"<ExitGuard {'armed' if self._ends_at is not None else 'off'}>"

    def arm(self, seconds: float) -> None:
        """Ends the process after `seconds`, unless it is armed again or disarmed before."""
        self._ends_at = time.monotonic() + seconds
        if not self._watching:
            self._watching = True
            threading.Thread(target=self._watch, name="fetchq-exit-guard", daemon=True).start()

    def disarm(self) -> None:
        self._ends_at = None

    def _watch(self) -> None:
        while (ends_at := self._ends_at) is not None:
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                self._end_process()
            time.sleep(
                min(max(left_s, 0), TICK_S)
            )  # an event's lock could be held by the code that a signal interrupts
        self._watching = False

    def _end_process(self) -> None:
        last = threading.Thread(target=self._say_last_words, daemon=True)
        last.start()
        last.join(LAST_WORDS_S)
        os._exit(self._status)

    def _say_last_words(self) -> None:
        where = _innermost_frames(threading.main_thread())
        try:
            returned = f"{self._return_jobs()}"
            self._status = 0
        except Exception as problem:  # noqa: BLE001 - Redis, or a state that the stuck thread left: the process ends
            returned = f"0 ({type(problem).__name__}: {problem}; the others run again when their leases end)"
        logger.error("worker.forced_exit returned=%s main_thread=%r: it has not stopped in time", returned, where)
        for handler in logging.root.handlers:
            handler.flush()


def _innermost_frames(thread: threading.Thread) -> str:
    """Where it is, the innermost frame first."""
    frame = sys._current_frames().get(thread.ident or 0)
    stack = traceback.extract_stack(frame, limit=FRAMES_SHOWN) if frame is not None else []
    return " < ".join(f"{one.filename}:{one.lineno} in {one.name}" for one in reversed(stack))
