"""What a worker process measures of itself, for `/metrics`."""

from __future__ import annotations

import msgspec


class ProcessMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one worker now. Counts are since the worker was made."""

    ready: bool
    """Whether it takes jobs: the answer of `/readyz`."""
    running_jobs: int
    max_jobs: int
    uncommitted_jobs: int
    """Finished jobs whose outcome is not in Redis yet."""
    jobs_complete: int
    jobs_failed: int
    jobs_retried: int
    event_loop_lag_s: float
    """How late the event loop called a timer, at most, in the last 15 s."""
    redis_round_trip_s: float | None
    """Of the last heartbeat that Redis answered; None before the first."""
    connections_idle: int
    """Of the HTTP client; 0 for a worker that has none."""
    connections_active: int
