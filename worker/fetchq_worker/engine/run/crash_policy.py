"""Functions that count their own attempts, and how their jobs end after many crashes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from arq.worker import Function


@dataclass
class CountsOwnAttempts(Function):
    """A function that counts its own attempts: only it can tell whether a start became an attempt or a crash.

    It does so when it begins. A job whose *start hook* kills its worker never reaches it, so after many starts the
    engine calls `finish_if_crashed` before any hook.
    """

    unchecked_starts: int
    """After this many starts, `finish_if_crashed` is called first."""
    finish_if_crashed: Callable[..., Awaitable[Any]]
    """Takes the arguments of the coroutine. Returns the result of a job that crashed too often, which ends without a
    run or hooks; or None, and the job runs. An exception has the same effect as one of the coroutine."""
