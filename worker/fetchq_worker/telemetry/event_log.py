"""The log lines that are made of events. docs/observability.md lists them beside those of other modules."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from fetchq.contract.wire import FETCH_FUNCTION
from fetchq.logs.text import one_line

from .events import (
    AnyEvent,
    AttemptEnded,
    CircuitOpened,
    FetchEnded,
    HostCooledDown,
    JobEnd,
    JobEnded,
    JobSnoozed,
    LeaseLost,
    RedisAvailable,
    RedisUnavailable,
    WorkerStarted,
)

UNREACHABLE_AFTER: Final = 20
"""Failures in a row from which on a host counts as unreachable, as `fetchq.store`'s hosts/admission.lua has it."""
COOLDOWN_LINE: Final = "host.cooldown host=%s for_s=%.1f asked=%s"

_FAILED: Final = JobEnd.FAILED  # Python 3.11 takes 0.2 us for each access to a member of an enum
_engine: Final = logging.getLogger("fetchq.engine")
_fetch: Final = logging.getLogger("fetchq.fetch")
_hosts: Final = logging.getLogger("fetchq.hosts")
_jobs: Final = logging.getLogger("fetchq.jobs")


class EventLog:
    """Writes the log lines of one worker's events."""

    __slots__ = ("is_on",)

    def __init__(self) -> None:
        self.is_on = False
        """Whether the start, and each job that fails for good, have lines, in place of arq's."""

    @property
    def shows_attempts(self) -> bool:
        """Whether each attempt that another one follows has a line."""
        return _fetch.isEnabledFor(logging.INFO)

    @property
    def shows_fetches(self) -> bool:
        """Whether each fetch that ended has a line."""
        return _fetch.isEnabledFor(logging.DEBUG)

    def write(self, event: AnyEvent) -> None:
        line = _LINES.get(type(event))
        if line is not None and (self.is_on or type(event) not in _IN_PLACE_OF_ARQS):
            line(event)


def _worker_started(event: WorkerStarted) -> None:
    text = "worker.started id=%s queue=%s concurrency=%d redis=%s"
    _engine.info(text, event.worker, event.queue, event.concurrency, event.redis)


def _redis_unavailable(event: RedisUnavailable) -> None:
    if event.refused:
        _engine.error("redis.refused error=%s", event.error)
    else:
        _engine.warning("redis.unavailable error=%s", event.error)


def _redis_available(event: RedisAvailable) -> None:
    _engine.warning("redis.available")


def _job_failed(event: JobEnded) -> None:
    if event.end is not _FAILED:
        return
    kept = "yes" if event.dead_letter else "no"
    job_id, function = one_line(event.job_id), one_line(event.function)
    status, error = one_line(event.status), one_line(event.error)
    problem = event.exception
    if problem is None:
        _jobs.warning(
            "job.failed id=%s function=%s status=%s attempts=%d dead_letter=%s url=%s error=%s",
            job_id,
            function,
            status,
            event.attempts,
            kept,
            one_line(event.url),
            error,
        )
    else:
        _jobs.error(
            "job.failed id=%s function=%s status=%s attempts=%d dead_letter=%s error=%s",
            job_id,
            function,
            status,
            event.attempts,
            kept,
            error,
            exc_info=problem if event.ran and (problem.__traceback__ or problem.__cause__) else None,
        )


def _attempt_retried(event: AttemptEnded) -> None:
    if event.retry_in_s is None or not _fetch.isEnabledFor(logging.INFO):
        return
    _fetch.info(
        "fetch.retried job=%s url=%s status=%s http_status=%s attempt=%d delay_s=%.3f",
        event.job_id,
        one_line(event.url),
        event.attempt.status,
        event.attempt.http_status,
        event.number,
        event.retry_in_s,
    )


def _fetch_finished(event: FetchEnded) -> None:
    if not _fetch.isEnabledFor(logging.DEBUG):
        return
    _fetch.debug(
        "fetch.finished job=%s url=%s status=%s http_status=%s attempts=%d total_s=%s",
        event.job_id,
        one_line(event.url),
        event.status,
        event.http_status,
        event.attempts,
        event.total_s,
    )


def _fetch_snoozed(event: JobSnoozed) -> None:
    if event.function == FETCH_FUNCTION and event.why:
        level = logging.DEBUG if event.is_routine else logging.WARNING
        _fetch.log(level, "fetch.snoozed job=%s defer_s=%.1f why=%s", event.job_id, event.delay_s, one_line(event.why))


def _lease_lost(event: LeaseLost) -> None:
    _engine.warning("lease.lost job=%s token=%s: another worker holds it, this run ends", event.job_id, event.token)


def _host_cooled_down(event: HostCooledDown) -> None:
    level = logging.WARNING if event.began else logging.DEBUG  # one line, however many responses ask for it
    _hosts.log(level, COOLDOWN_LINE, event.limit_key, event.for_s, event.asked)


def _circuit_opened(event: CircuitOpened) -> None:
    # The circuit of an unreachable host opens every 10 s, and its jobs fail with lines of their own.
    level = logging.WARNING if event.failures <= UNREACHABLE_AFTER else logging.DEBUG
    text = "host.circuit_opened host=%s failures=%d for_s=%.1f"
    _hosts.log(level, text, event.limit_key, event.failures, event.for_s)


_LINES: Final[dict[type, Callable[[Any], None]]] = {
    WorkerStarted: _worker_started,
    RedisUnavailable: _redis_unavailable,
    RedisAvailable: _redis_available,
    JobEnded: _job_failed,
    JobSnoozed: _fetch_snoozed,
    LeaseLost: _lease_lost,
    AttemptEnded: _attempt_retried,
    FetchEnded: _fetch_finished,
    HostCooledDown: _host_cooled_down,
    CircuitOpened: _circuit_opened,
}
_IN_PLACE_OF_ARQS: Final = frozenset({WorkerStarted, JobEnded})
