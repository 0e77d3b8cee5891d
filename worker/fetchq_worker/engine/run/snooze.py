"""Giving a job back without counting the try."""

from __future__ import annotations

from arq.worker import Retry


class Snooze(Retry):
    """Raised by a coroutine (or a job's start hook) to put its job back, due after `defer_s`.

    On this engine the try is not counted, and without a delay the job goes back to where it stood in the queue. A stock
    arq worker sees a `Retry`, and counts it.
    """

    def __init__(self, defer_s: float = 0.0) -> None:
        super().__init__(defer=defer_s)

    def __repr__(self) -> str:
        return f"<Snooze defer {(self.defer_score or 0) / 1000:0.2f}s>"
