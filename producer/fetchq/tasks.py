"""Reliable cancellation of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

CANCEL_INTERVAL_S: Final = 0.1


async def cancel_and_wait(task: asyncio.Task[Any]) -> None:
    """Cancels a task and returns when it has ended.

    One `cancel()` is not enough: redis-py sends its commands under `asyncio.wait_for`, and in Python 3.11 that loses a
    cancellation that arrives as the awaited task ends (CPython issue 86296).
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_INTERVAL_S)


def keep_cancelling(task: asyncio.Task[Any] | None, at_work: Callable[[], bool]) -> None:
    """Cancels a task repeatedly while `at_work()` is true: for a caller that cannot wait, such as a signal handler.

    The clean-up that the task does after that is not cancelled.
    """
    if task is not None and not task.done() and at_work():
        task.cancel()
        task.get_loop().call_later(CANCEL_INTERVAL_S, keep_cancelling, task, at_work)


def raise_if_cancelled() -> None:
    """Raises `CancelledError` if the running task has been cancelled and has not received the exception yet."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
