"""Time as a job sees it: by Redis's clock, so that a wrong clock of one machine does not matter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import time
from typing import Any

from fetchq import FetchRequest
from fetchq.contract.placement import deadline_ms_of
from fetchq_worker.engine.run.context import RunContext, run_context


def redis_now(run: RunContext) -> datetime:
    """Now by Redis's clock, as far as the engine knows it; without an engine, by this machine's."""
    return datetime.now(UTC) + timedelta(seconds=run.clock_behind_s)


def is_past(deadline: datetime, now: datetime) -> bool:
    """To the ms, as the store compares it."""
    return deadline_ms_of(deadline) <= now.timestamp() * 1000


def queued_s(ctx: dict[str, Any], request: FetchRequest) -> float | None:
    """How long the job has waited since it was due; None without a score.

    The score is the due time in ms. A job that was parked has the time at which it left the queue of its limit key
    instead; its due time is computed from the enqueue time and the request, so that a stock client's `_defer_by` counts
    as waiting.
    """
    score: float | None = ctx.get("score")
    if score is None:
        return None
    due_s = score / 1000
    enqueued: datetime | None = ctx.get("enqueue_time")
    if run_context(ctx).was_parked and enqueued is not None:
        asked_s = enqueued.timestamp() + request.delay_s
        if request.not_before is not None:
            asked_s = max(asked_s, request.not_before.timestamp())
        due_s = min(due_s, asked_s)
    return max(0.0, time() - due_s)
