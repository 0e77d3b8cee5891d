"""Runs without a recorded attempt, since their worker crashed or was stopped."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from fetchq import Attempt, FetchRequest, FetchStatus

from .history import AttemptHistory
from .retry import may_repeat

MAX_CRASHES: Final = 5
"""After this many runs with a lost worker a job ends as WORKER_LOST: it may be what crashes them."""


def with_lost_runs(history: AttemptHistory, job_try: int, now: datetime) -> AttemptHistory:
    """Adds a WORKER_LOST attempt for each earlier run without one. `job_try` counts the runs, this one included."""
    missing = max(job_try - 1 - len(history.attempts), 1 if history.sending else 0)
    if missing <= 0:
        return history
    lost = Attempt(started_at=now, status=FetchStatus.WORKER_LOST, error="its run was cut off")
    # Bounded, since a client can claim any number of tries.
    return msgspec.structs.replace(history, attempts=history.attempts + (lost,) * min(missing, MAX_CRASHES))


def lost_because(request: FetchRequest, history: AttemptHistory) -> str | None:
    """Why a job with lost runs must not run again; None: it may."""
    if history.sending and not may_repeat(request):
        return "its run was cut off after the request may have been sent, and the method is not idempotent"
    crashes = len(history.attempts) - history.made
    if crashes >= MAX_CRASHES:
        return f"its worker was lost {crashes} times while running it"
    return None
