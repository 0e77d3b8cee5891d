"""Runs an event loop to the end of one task, whatever other tasks do to the loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from fetchq_worker.engine.run.raised import is_the_jobs

logger = logging.getLogger("fetchq.engine")

_STOPPED: Final = "Event loop stopped before Future completed."
"""The message of asyncio's and uvloop's `RuntimeError` after `loop.stop()`."""


def run_to_end(run_until_complete: Callable[[asyncio.Future[Any]], Any], task: asyncio.Future[Any]) -> Any:
    """Runs the loop until `task` has ended.

    asyncio ends the loop when any task or callback raises `SystemExit` or `KeyboardInterrupt`, and on `loop.stop()`.
    A job's sub-task, which no code of ours surrounds, must not end the worker: the loop is run again. A
    `KeyboardInterrupt` by a signal is raised.
    """
    while True:
        try:
            return run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as problem:
            if task.done() or not is_the_jobs(problem, None):
                if task.done() and not task.cancelled():
                    task.exception()  # marks it as retrieved
                raise
            logger.exception("loop.interrupted: a task of a job raised what ends an event loop; it runs on")
        except RuntimeError as problem:
            if task.done() or str(problem) != _STOPPED:
                raise
            logger.error("loop.interrupted: a job called loop.stop(); the loop runs on")  # noqa: TRY400 - no traceback
