"""Says on stderr for which hosts the run waits, and until when."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from fetchq_worker.cli.terminal.progress import Progress
from fetchq_worker.cli.terminal.text import span_text
from fetchq_worker.fetch.robots.robots import UNAVAILABLE_EVENT
from fetchq_worker.telemetry.event_log import COOLDOWN_LINE

SHORTEST_S: Final = 5.0
"""Shorter pauses are not worth a line."""
MAX_LINES: Final = 20
"""A list of many busy hosts must not fill the terminal."""


class _Pauses(logging.Handler):
    """Turns the log events of pauses into lines."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        sentence = sentence_of(record, datetime.now().astimezone())
        if sentence is None or self._lines > MAX_LINES:
            return
        self._lines += 1
        self._progress.note(sentence if self._lines <= MAX_LINES else "further pauses are not shown")


def sentence_of(record: logging.LogRecord, now: datetime) -> str | None:
    """The sentence for a pause of `SHORTEST_S` or longer; None for any other record."""
    match record.msg, record.args:
        case str(event), (str(host), float(for_s), bool(asked)) if event == COOLDOWN_LINE:
            why = f"{host} {'asks for a pause' if asked else 'is busy'}: its URLs wait until"
        case str(event), (str(origin), _, float(for_s), str(error)) if event == UNAVAILABLE_EVENT:
            why = f"robots.txt of {origin} cannot be had ({error}): it is requested again at"
        case _:
            return None
    if for_s < SHORTEST_S or record.levelno < logging.INFO:
        return None
    return f"{why} {now + timedelta(seconds=for_s):%H:%M:%S}, in {span_text(for_s)}"


@contextlib.contextmanager
def said_pauses(progress: Progress) -> Iterator[None]:
    """While it is open, pauses are said on stderr."""
    logger, handler = logging.getLogger("fetchq.hosts"), _Pauses(progress)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # the lines are for a person, and not for the log
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
