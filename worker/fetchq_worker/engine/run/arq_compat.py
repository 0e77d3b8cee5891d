"""arq's own log lines, word for word, so that monitoring of stock workers works with this one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

from arq.utils import args_to_string, ms_to_datetime, truncate

from fetchq.contract.wire import as_failure

from .job import Job, now_ms
from .raised import escaped_trace, told

logger = logging.getLogger("arq.worker")


def log_start(job: Job, *, with_arguments: bool) -> None:
    extra = f" try={job.tries}" if job.tries > 1 else ""
    if job.start_ms - job.lease.score > 1200:
        extra += f" delayed={(job.start_ms - job.lease.score) / 1000:0.2f}s"
    arguments = _shown(lambda: args_to_string(job.args, job.kwargs)) if with_arguments else "..."
    logger.info("%6.2fs → %s(%s)%s", age_s(job), job.ref, arguments, extra)


def log_failure(job: Job, problem: BaseException) -> None:
    extra = {"extra": _extra_of(problem)}
    trace = escaped_trace(problem)
    if trace is None:
        logger.error(
            "%6.2fs ! %s failed, %s", run_s(job), job.ref, _type_and_message(problem), exc_info=problem, extra=extra
        )
    else:
        logger.error("%6.2fs ! %s failed, %s\n%s", run_s(job), job.ref, _type_and_message(problem), trace, extra=extra)


def shown_result(value: Any) -> str:
    return _shown(lambda: truncate(repr(value)))


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
    try:
        extra = getattr(problem, "extra", None)
        return extra() if callable(extra) else extra
    except BaseException as failure:  # noqa: BLE001 - the user's code; only the log shows it
        return failure


def _type_and_message(problem: BaseException) -> str:
    failure = as_failure(problem)
    return f"{failure['type']}: {failure['message']}"


def _shown(show: Callable[[], str]) -> str:
    """The `repr` of the user's objects, which may raise anything."""
    try:
        return show()
    except BaseException as failure:  # noqa: BLE001 - a log line must not cost the job
        return f"<repr failed: {told(failure)}>"
