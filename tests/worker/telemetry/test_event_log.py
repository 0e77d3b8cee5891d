"""The levels of log lines that are made of events."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

import fetchq.store
from fetchq_worker.telemetry.event_log import UNREACHABLE_AFTER, EventLog
from fetchq_worker.telemetry.events import CircuitOpened


def test_a_host_that_stays_unreachable_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    log = EventLog()
    for failures in (5, UNREACHABLE_AFTER, UNREACHABLE_AFTER + 1, 149):
        log.write(CircuitOpened(limit_key="example.org", failures=failures, for_s=10.0))
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "DEBUG", "DEBUG"]


def test_the_number_of_failures_is_that_of_the_script() -> None:
    script = Path(fetchq.store.__file__).parent / "lua/include/hosts/admission.lua"
    found = re.search(r"UNREACHABLE_AFTER = (\d+)", script.read_text(encoding="utf-8"))
    assert found is not None
    assert int(found[1]) == UNREACHABLE_AFTER
