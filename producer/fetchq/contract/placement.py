"""Due time, lane and limit key of a job, in the form that `lua/jobs/enqueue.lua` takes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fetchq.errors import InvalidRequest

from .priority import Priority
from .request import MAX_WAIT_S, FetchRequest
from .urls import host_of

KEY_PREFIX: Final = "key:"
"""Precedes a limit key that a request names. No host begins like this: it would be a host with a port."""

_LANES: Final = {Priority.HIGH: "h", Priority.DEFAULT: "", Priority.LOW: "l"}


def limit_key_of(request: FetchRequest) -> str:
    """The limit key that follows from the request alone: the one it names, else the host of its URL."""
    return host_of(request.url) if request.limit_key is None else f"{KEY_PREFIX}{request.limit_key}"


def lane_of(priority: Priority) -> str:
    """The lane as scripts take it: `h`, `l`, or nothing for the default one."""
    return _LANES[priority]


def stored_limits_of(job: Mapping[str, Any]) -> tuple[str, str]:
    """The limit key and the lane in the payload of a job that is not a fetch, as `enqueue_job` wrote them."""
    key, priority = job.get("limit_key"), job.get("priority")
    lane = _LANES[Priority(priority)] if priority in tuple(Priority) else ""
    return f"{KEY_PREFIX}{key}" if isinstance(key, str) and key else "", lane


def lane_and_deadline_of(request: FetchRequest) -> str:
    """The lane (`h`, `l`, or nothing for the default one), followed by the deadline in ms, if any."""
    lane = _LANES[request.priority]
    return lane if request.deadline is None else f"{lane}{deadline_ms_of(request.deadline)}"


def deadline_ms_of(deadline: datetime) -> int:
    """A deadline in ms since the epoch."""
    return round(deadline.timestamp() * 1000)


def due_of(request: FetchRequest) -> str:
    """When the job is due: empty for now, `+N` in N ms by Redis's clock, `N` at N ms since the epoch."""
    if request.not_before is not None:
        return str(max(0, round(request.not_before.timestamp() * 1000)))
    return f"+{round(request.delay_s * 1000)}" if request.delay_s else ""


def check_schedule(request: FetchRequest) -> None:
    """Raises `InvalidRequest` for a job that would expire before it is due, or is due more than `MAX_WAIT_S` ahead.

    Only the producer checks this: a request that was in time when it was enqueued can be late when a worker reads it.
    """
    if request.deadline is None and request.not_before is None:
        return
    now = datetime.now(UTC)
    if request.not_before is not None and request.not_before - now > timedelta(seconds=MAX_WAIT_S):
        raise InvalidRequest("not_before", f"is more than {MAX_WAIT_S / 86_400:g} days ahead")
    if request.deadline is None:
        return
    remaining_s = (request.deadline - now).total_seconds()
    if remaining_s <= 0:
        raise InvalidRequest("deadline", f"has passed already, {-remaining_s:.1f} s ago by this machine's clock")
    if request.delay_s > remaining_s:
        raise InvalidRequest(
            "delay_s", f"{request.delay_s:g} s is past the deadline, which is {remaining_s:.1f} s ahead"
        )
