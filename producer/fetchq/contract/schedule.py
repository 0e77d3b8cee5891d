"""When a job is due, and whether it can be: `not_before`, `delay_s` and `deadline` beside the producer's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fetchq.errors import InvalidRequest

from .request import MAX_WAIT_S, FetchRequest


def check_schedule(request: FetchRequest) -> None:
    """Raises `InvalidRequest` for a job that would expire before it is due, or wait longer than any may.

    Not a rule of the request itself: what is in time when it is enqueued can be late when a worker reads it.
    """
    if request.deadline is None and request.not_before is None:
        return
    now = datetime.now(UTC)
    if request.not_before is not None and request.not_before - now > timedelta(seconds=MAX_WAIT_S):
        raise InvalidRequest("not_before", f"is more than {MAX_WAIT_S / 86_400:g} days ahead")
    if request.deadline is None:
        return
    left_s = (request.deadline - now).total_seconds()
    if left_s <= 0:
        raise InvalidRequest("deadline", f"has passed already, {-left_s:.1f} s ago by this machine's clock")
    if request.delay_s > left_s:
        raise InvalidRequest("delay_s", f"{request.delay_s:g} s is past the deadline, which is {left_s:.1f} s ahead")


def due_of(request: FetchRequest) -> str:
    """When the job is due, as `lua/enqueue.lua` takes it."""
    if request.not_before is not None:
        return str(max(0, round(request.not_before.timestamp() * 1000)))
    return f"+{round(request.delay_s * 1000)}" if request.delay_s else ""
