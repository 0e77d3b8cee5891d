"""Logging of a program: to stderr, since stdout is for results."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final

from .format import JSONFormatter, TextFormatter

_python: Final = logging.getLogger("fetchq.python")


class LogFormat(StrEnum):
    """The shape of a log line."""

    TEXT = "text"
    JSON = "json"
    """One JSON object a line."""


class LogLevel(StrEnum):
    """The least severe log lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


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
    loggers: Sequence[str] = ("fetchq",),
) -> None:
    """Logs events from `level` upwards on stderr, those of the libraries too.

    Does nothing where logging is set up already, by a module of the user's: for the root logger, or for all `loggers`.
    """
    if logging.root.handlers or all(_has_handler(name) for name in loggers):
        return
    handler = StderrHandler(sys.stderr)
    handler.setFormatter(JSONFormatter() if log_format is LogFormat.JSON else TextFormatter())
    logging.root.addHandler(handler)
    logging.root.setLevel(level.upper())


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


def set_level(name: str, level: int) -> None:
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
