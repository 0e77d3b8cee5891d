"""Progress: words that can be read in one way, and what is drawn where."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
from typing import NamedTuple

import pytest
from tests.worker.cli.conftest import Fetchq, Site

from fetchq_worker.cli.terminal.progress import (
    BarProgress,
    How,
    LineProgress,
    Progress,
    make_progress,
    progress_text,
)


class Done(NamedTuple):
    done: int
    failed: int = 0


@pytest.mark.parametrize(
    ("counts", "total", "elapsed_s", "text"),
    [
        (Done(60), 300, 6.0, "60 of 300 done, 10/s, 6 s elapsed, about 24 s left"),
        (Done(60, 3), 300, 6.0, "60 of 300 done, 3 failed, 10/s, 6 s elapsed, about 24 s left"),
        (Done(1000), None, 125.0, "1,000 done, 8/s, 2 min 5 s elapsed"),
        (Done(0), 300, 6.0, "0 of 300 done, 0/s, 6 s elapsed"),
        (Done(300), 300, 30.0, "300 of 300 done, 10/s, 30 s elapsed"),
        (Done(36_000), 720_000, 3600.0, "36,000 of 720,000 done, 10/s, 1 h 0 min elapsed, about 19 h 0 min left"),
    ],
)
def test_each_time_is_named(counts: Done, total: int | None, elapsed_s: float, text: str) -> None:
    assert progress_text(counts, total, elapsed_s) == text


@pytest.mark.parametrize("columns", [10, 40, 60, 80, 120, 300])
@pytest.mark.parametrize("counts", [Done(0), Done(7), Done(999_999, 123_456), Done(1_000_000, 1)])
def test_a_line_is_narrower_than_the_terminal(columns: int, counts: Done) -> None:
    for total in (None, 1_000_000):
        assert len(progress_text(counts, total, 7500.0, columns=columns)) < columns


def test_a_bar_is_drawn_where_there_is_room_and_the_time_left_outlives_the_time_elapsed() -> None:
    bar = "[#####......................]"
    assert progress_text(Done(60), 300, 6.0, columns=81) == f"{bar} 60 of 300 done, 10/s, 6 s elapsed, about 24 s left"
    assert progress_text(Done(60), 300, 6.0, columns=52) == "60 of 300 done, 10/s, 6 s elapsed, about 24 s left"
    assert progress_text(Done(60), 300, 6.0, columns=45) == "60 of 300 done, 10/s, about 24 s left"


@pytest.mark.parametrize(
    ("how", "term", "at_terminal", "kind"),
    [
        ("auto", "xterm", True, BarProgress),
        ("auto", "dumb", True, LineProgress),
        ("auto", "xterm", False, LineProgress),
        ("bar", "xterm", False, BarProgress),
        ("lines", "xterm", True, LineProgress),
        ("none", "xterm", True, Progress),
    ],
)
def test_a_bar_is_for_a_terminal_that_can_redraw_a_line(
    monkeypatch: pytest.MonkeyPatch, how: How, term: str, at_terminal: bool, kind: type[Progress]
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: at_terminal)
    assert type(make_progress(stdout_is_results=False, how=how)) is kind


def test_lines_are_plain_and_come_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    progress = LineProgress()
    progress.show(Done(0), 300)
    now_s[0] += 6
    progress.show(Done(60), 300)
    progress.close()
    assert stderr.getvalue() == "fetchq: 60 of 300 done, 10/s, 6 s elapsed, about 24 s left\n"


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_a_terminal_gets_no_colour_and_a_dumb_one_no_control_sequence(fetchq: Fetchq, site: Site, term: str) -> None:
    main_end, terminal = pty.openpty()
    environ = {"TERM": term, "NO_COLOR": "1"}
    process = fetchq.start("fetch", f"{site.url}/page/1", "--out", "out.jsonl", stderr=terminal, environ=environ)
    os.close(terminal)
    process.communicate()
    shown = b""
    try:
        while chunk := os.read(main_end, 65_536):
            shown += chunk
    except OSError:
        pass  # Linux reports the end of a terminal as EIO
    finally:
        os.close(main_end)
    assert process.returncode == 0
    assert b"1 done in" in shown
    sequences = set(re.findall(rb"\x1b\[[0-9;?]*[a-zA-Z]", shown))
    assert sequences <= ({b"\x1b[K"} if term != "dumb" else set())
