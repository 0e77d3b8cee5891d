"""Reliable cancellation of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

CANCEL_INTERVAL_S: Final = 0.1


async def cancel_and_wait(task: asyncio.Task[Any]) -> None:
    """Cancels a task and returns when it has ended.

    One `cancel()` is not enough: `asyncio.wait_for` of Python 3.11, under which redis-py sends its commands, loses a
    cancellation that meets the end of what it waits for (CPython issue 86296).
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_INTERVAL_S)


def keep_cancelling(task: asyncio.Task[Any] | None, at_work: Callable[[], bool]) -> None:
    """Cancels a task again and again while it is `at_work`: for a caller that cannot wait, such as a signal handler.

    What the task does to clean up, once it is not at work any more, is left alone.
    """
    if task is not None and not task.done() and at_work():
        task.cancel()
        task.get_loop().call_later(CANCEL_INTERVAL_S, keep_cancelling, task, at_work)


def raise_if_cancelled() -> None:
    """Raises the `CancelledError` that the running task was sent and has not seen."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
