"""Jobs that take their workers with them, of functions that count their tries themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from arq.worker import Function


@dataclass
class CountsOwnAttempts(Function):
    """A function whose tries the engine cannot count, since only itself knows which of its starts were worth one.

    It judges whether a start was a try or a crash, and does so where it begins. A job whose *start hook* kills its
    worker never gets there. So a job that was started often is judged before any hook of the user's is called.
    """

    unchecked_starts: int
    """From the start after these on `finish_if_crashed` is asked."""
    finish_if_crashed: Callable[..., Awaitable[Any]]
    """Takes what the coroutine takes. What it returns is the end of a lost job, without a run and its hooks; None: the
    job is to be run. It may raise what the coroutine may raise, and the job goes on as it would after that."""
