"""arq's own log lines, word for word, so that monitoring of stock workers works with this one."""

from __future__ import annotations

import logging
from datetime import datetime
from functools import lru_cache
from typing import Any

from arq.utils import args_to_string, ms_to_datetime

from .job import Job, now_ms

logger = logging.getLogger("arq.worker")


def log_start(job: Job, *, with_arguments: bool) -> None:
    extra = f" try={job.tries}" if job.tries > 1 else ""
    if job.start_ms - job.lease.score > 1200:
        extra += f" delayed={(job.start_ms - job.lease.score) / 1000:0.2f}s"
    arguments = args_to_string(job.args, job.kwargs) if with_arguments else "..."
    logger.info("%6.2fs → %s(%s)%s", age_s(job), job.ref, arguments, extra)


def log_failure(job: Job, problem: BaseException) -> None:
    what, extra = type(problem).__name__, _extra_of(problem)
    logger.error(
        "%6.2fs ! %s failed, %s: %s", run_s(job), job.ref, what, problem, exc_info=problem, extra={"extra": extra}
    )


def age_s(job: Job) -> float:
    """From its enqueueing to its start."""
    return (job.start_ms - job.enqueue_time_ms) / 1000


def run_s(job: Job) -> float:
    """From its start until now."""
    return (now_ms() - job.start_ms) / 1000


@lru_cache(maxsize=16)
def to_datetime(ms: int) -> datetime:
    """arq's `enqueue_time`. Cached, since the jobs of a batch were enqueued in the same ms."""
    return ms_to_datetime(ms)


def _extra_of(problem: BaseException) -> Any:
    """The `extra` of an exception, which arq adds to the log record."""
    extra = getattr(problem, "extra", None)
    try:
        return extra() if callable(extra) else extra
    except Exception as failure:  # noqa: BLE001 - the user's code; only the log shows it
        return failure
