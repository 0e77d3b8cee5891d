"""The log line of a job that failed for good: `job.failed`, of the logger `fetchq.jobs`."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fetchq.contract.wire import as_failure
from fetchq.logs.text import one_line

from .job import Job

logger = logging.getLogger("fetchq.jobs")


def log_if_failed(job: Job, success: bool, value: Any, dead_letter: bytes, *, trace: bool = True) -> None:
    """Logs a job whose coroutine raised `value`, or returned it and reported a failure; not one that was cancelled.

    `trace` says whether the traceback is of the user's code, and logged.
    """
    kept = "yes" if dead_letter else "no"
    if success:
        failure = None if job.run is None else job.run.failure
        if failure is not None:
            logger.warning(
                "job.failed id=%s function=%s status=%s attempts=%d dead_letter=%s url=%s error=%s",
                one_line(job.lease.id),
                one_line(job.name),
                failure.status,
                failure.attempts,
                kept,
                one_line(failure.url),
                one_line(failure.error),
            )
    elif not isinstance(value, asyncio.CancelledError):
        told = as_failure(value)
        logger.error(
            "job.failed id=%s function=%s status=%s attempts=%d dead_letter=%s error=%s",
            one_line(job.lease.id),
            one_line(job.name),
            one_line(told["type"]),
            job.tries,
            kept,
            one_line(told["message"]),
            exc_info=value if trace and (value.__traceback__ or value.__cause__) else None,
        )
