"""Logging of a command: to stderr, since stdout is for results."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from fetchq_worker.settings import LogFormat, LogJobs, LogLevel

from .log_format import JSONFormatter, TextFormatter

_python: Final = logging.getLogger("fetchq.python")

_OURS: Final = ("fetchq", "arq")


class StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]  # generic in the stubs alone
    """Writes to stderr, except what a handler of the user's writes too.

    A settings module sets up logging when it is imported, a start hook of the user's does so later.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if len(logging.root.handlers) == 1 and not _has_handler(record.name):
            super().emit(record)


def configure_logs(
    level: LogLevel = LogLevel.INFO,
    *,
    log_format: LogFormat = LogFormat.TEXT,
    log_jobs: LogJobs = LogJobs.FAILED,
) -> None:
    """Logs events from `level` upwards on stderr, those of the libraries too.

    `log_jobs` says which jobs have lines. The start and end of each, at thousands of jobs a second, cost more than the
    fetches.

    Does nothing where logging is set up already, by a settings module of the user's: for the root logger, or for the
    loggers of fetchq and of arq alike. A level that it has set for one of them stays.
    """
    if not logging.root.handlers and not all(_has_handler(f"{name}.worker") for name in _OURS):
        handler = StderrHandler(sys.stderr)
        handler.setFormatter(JSONFormatter() if log_format is LogFormat.JSON else TextFormatter())
        logging.root.addHandler(handler)
        logging.root.setLevel(level.upper())
    if log_jobs is LogJobs.ALL:
        _set_level("fetchq.fetch", logging.DEBUG)
        return
    if log_jobs is LogJobs.NONE:
        _set_level("fetchq.jobs", logging.CRITICAL)
    _set_level("arq.worker", logging.WARNING)


@contextmanager
def logging_what_python_prints() -> Iterator[None]:
    """Makes log lines of warnings, and of exceptions that no code can catch: Python prints them in its own shape.

    Does nothing where logging is the user's.
    """
    if not any(isinstance(handler, StderrHandler) for handler in logging.root.handlers):
        yield
        return
    before = sys.unraisablehook, threading.excepthook
    logging.captureWarnings(True)
    sys.unraisablehook, threading.excepthook = _log_unraisable, _log_end_of_thread
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = before
        logging.captureWarnings(False)


def _log_unraisable(one: Any) -> None:
    """Of `__del__` and the like."""
    where = getattr(one.object, "__qualname__", type(one.object).__name__)
    exc_info = (one.exc_type, one.exc_value, one.exc_traceback)
    _python.error("python.exception_ignored in=%s", where, exc_info=exc_info)


def _log_end_of_thread(ended: Any) -> None:
    if ended.exc_type is not SystemExit:
        exc_info = (ended.exc_type, ended.exc_value, ended.exc_traceback)
        _python.error("python.thread_failed thread=%s", ended.thread and ended.thread.name, exc_info=exc_info)


def _set_level(name: str, level: int) -> None:
    """Sets the level of a logger, unless it, or a parent of it other than the root logger, has one."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None and logger is not logging.root:
        if logger.level != logging.NOTSET:
            return
        logger = logger.parent
    logging.getLogger(name).setLevel(level)


def _has_handler(name: str) -> bool:
    """Whether a logger, or a parent of it other than the root logger, has a handler of its own."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None and logger is not logging.root:
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False
