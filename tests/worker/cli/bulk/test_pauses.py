"""What a person is told while a run waits for a host."""

from __future__ import annotations

import logging
from datetime import datetime

import pytest

from fetchq_worker.cli.bulk.pauses import MAX_LINES, said_pauses, sentence_of
from fetchq_worker.cli.terminal.progress import make_progress
from fetchq_worker.fetch.robots.robots import UNAVAILABLE_EVENT
from fetchq_worker.telemetry.event_log import COOLDOWN_LINE

NOON = datetime(2026, 1, 2, 12, 0, 0)


def _record(event: str, *args: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("fetchq.hosts", level, __file__, 1, event, args, None)


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (
            _record(COOLDOWN_LINE, "a.example", 3600.0, True),
            "a.example asks for a pause: its URLs wait until 13:00:00, in 1 h 0 min",
        ),
        (
            _record(COOLDOWN_LINE, "a.example", 5.0, False),
            "a.example is busy: its URLs wait until 12:00:05, in 5 s",
        ),
        (
            _record(UNAVAILABLE_EVENT, "http://a.example", "HTTP_ERROR", 60.0, "the server responded 503"),
            "robots.txt of http://a.example cannot be had (the server responded 503): it is requested again at "
            "12:01:00, in 1 min 0 s",
        ),
        (_record(COOLDOWN_LINE, "a.example", 4.9, True), None),
        (_record(COOLDOWN_LINE, "a.example", 60.0, True, level=logging.DEBUG), None),
        (_record("limit_by.changed from=%s to=%s", "host", "domain"), None),
    ],
)
def test_a_long_pause_is_said_with_its_end(record: logging.LogRecord, sentence: str | None) -> None:
    assert sentence_of(record, NOON) == sentence


def test_many_pauses_do_not_fill_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("fetchq.hosts")
    with said_pauses(make_progress(stdout_is_results=False, how="none")):
        for number in range(MAX_LINES + 10):
            logger.warning(COOLDOWN_LINE, f"host{number}.example", 60.0, True)
    logger.warning(COOLDOWN_LINE, "later.example", 60.0, True)

    lines = capfd.readouterr().err.splitlines()
    assert len([line for line in lines if "its URLs wait" in line]) == MAX_LINES
    assert lines.count("fetchq: further pauses are not shown") == 1
