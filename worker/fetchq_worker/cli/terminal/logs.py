"""Logging of a worker, and of a command that runs one."""

from __future__ import annotations

import logging
from typing import Final

from fetchq.logs.setup import LogFormat, LogLevel, configure_logs, set_level
from fetchq_worker.settings import LogJobs

_LOGGERS: Final = ("fetchq.worker", "arq.worker")


def configure_worker_logs(
    level: LogLevel = LogLevel.INFO,
    *,
    log_format: LogFormat = LogFormat.TEXT,
    log_jobs: LogJobs = LogJobs.FAILED,
) -> None:
    """As `configure_logs`, for the loggers of fetchq and of arq.

    `log_jobs` says which jobs have lines. The start and end of each, at thousands of jobs a second, cost more than the
    fetches. A level that the user has set for one of the loggers stays.
    """
    configure_logs(level, log_format=log_format, loggers=_LOGGERS)
    if log_jobs is LogJobs.ALL:
        set_level("fetchq.fetch", logging.DEBUG)
        return
    if log_jobs is LogJobs.NONE:
        set_level("fetchq.jobs", logging.CRITICAL)
    if level is not LogLevel.DEBUG:
        set_level("fetchq.fetch", logging.WARNING)  # no line for each retry
    set_level("arq.worker", logging.WARNING)
