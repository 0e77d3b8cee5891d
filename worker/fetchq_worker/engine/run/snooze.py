"""Snooze: a job goes back to the queue and the try is not counted."""

from __future__ import annotations

import sys

from arq.worker import Retry


class Snooze(Retry):
    """Raised by a coroutine, or by a job's start hook, to requeue its job for `defer_s`.

    Without a delay the job keeps its place in the queue. A stock arq worker handles it as `Retry` and counts the try.
    """

    def __init__(self, defer_s: float = 0.0, why: str = "", *, is_routine: bool = False) -> None:
        """`why` is a sentence for the event; `is_routine`: nothing is wrong with the worker or its Redis."""
        super().__init__(defer=defer_s)
        self.why = why
        self.is_routine = is_routine

    def __repr__(self) -> str:
        return f"<Snooze defer {(self.defer_score or 0) / 1000:0.2f}s>"


def tell_sentry() -> None:
    """Adds `Snooze` to what Sentry's ArqIntegration takes for control flow, as `Retry`: it compares exact types."""
    sentry = sys.modules.get("sentry_sdk.integrations.arq")
    known = getattr(sentry, "ARQ_CONTROL_FLOW_EXCEPTIONS", None)
    if isinstance(known, tuple) and Snooze not in known:
        sentry.ARQ_CONTROL_FLOW_EXCEPTIONS = (*known, Snooze)  # type: ignore[union-attr]
