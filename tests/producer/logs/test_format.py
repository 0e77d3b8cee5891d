"""The two shapes of a log line."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from fetchq.logs.format import MAX_TRACE_LINES, JSONFormatter, TextFormatter


def record(message: str, *args: object, exc_info: Any = None, level: int = logging.WARNING) -> logging.LogRecord:
    made = logging.LogRecord("fetchq.engine", level, __file__, 1, message, args, exc_info)
    made.created = 1_800_000_000.1239
    return made


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    line = JSONFormatter().format(made)
    assert "\n" not in line
    fields: dict[str, Any] = json.loads(line)
    del fields["pid"]
    return fields


def failed(text: str, depth: int = 0) -> Any:
    """The `exc_info` of an exception with this message."""

    def fail(rest: int) -> None:
        if rest:
            fail(rest - 1)
        raise ValueError(text)

    try:
        fail(depth)
    except ValueError:
        return sys.exc_info()


def test_text_begins_with_the_time_in_utc_the_level_and_the_logger() -> None:
    line = TextFormatter().format(record("redis.waiting try=%d error=%s", 1, "no\nreply"))
    assert line == r"2027-01-15T08:00:00.123Z WARNING fetchq.engine redis.waiting try=1 error=no\nreply"


def test_an_event_is_a_json_object_with_its_fields() -> None:
    made = record("redis.waiting try=%d retry_in_s=%.2f is_last=%s error=%s", 1, 0.25631, None, "no\nreply")
    assert as_json(made) == {
        "time": "2027-01-15T08:00:00.123Z",
        "level": "warning",
        "event": "redis.waiting",
        "try": 1,
        "retry_in_s": 0.26,
        "is_last": None,
        "error": r"no\nreply",
        "logger": "fetchq.engine",
    }


@pytest.mark.parametrize(
    ("message", "args", "fields"),
    [
        ("a sentence with a=%s", (1,), {"message": "a sentence with a=1"}),
        ("100 %% of %s.", ("it",), {"message": "100 % of it."}),
        ("no arguments %s", (), {"message": "no arguments %s"}),
        ("job.end id=%s: it said so", ("x",), {"event": "job.end", "id": "x", "message": "job.end id=x: it said so"}),
        ("job.end id=%s %s", ("x", "a=1"), {"event": "job.end", "id": "x", "message": "job.end id=x a=1"}),
        ("job.end level=%s time=%s", ("x", "y"), {"event": "job.end"}),
        ("job.end payload=%s", (b"secret",), {"event": "job.end", "payload": "<6 bytes>"}),
        ("job.end id=%(id)s", ({"id": 1},), {"message": "job.end id=1"}),
    ],
)
def test_a_message_is_shown_where_the_fields_do_not_say_it(
    message: str, args: tuple[object, ...], fields: dict[str, Any]
) -> None:
    line = as_json(record(message, *args))
    assert {**line, **fields} == line
    assert ("message" in line) == ("message" in fields)
    assert line["level"] == "warning"


def test_a_traceback_cannot_look_like_lines_of_their_own() -> None:
    made = record("job.failed id=%s", "x", exc_info=failed("bad\n2027-01-15T08:00:00.000Z ERROR forged line"))
    head, *lines = TextFormatter().format(made).split("\n")
    assert head.endswith("job.failed id=x")
    assert lines[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in lines)
    assert as_json(made)["traceback"].endswith("ERROR forged line")


def test_a_message_that_is_written_in_several_lines_has_these_indented() -> None:
    made = record("worker.forced_exit returned=%d: its main thread:\n%s", 2, "frame 1\nframe\t2")
    assert TextFormatter().format(made).split("\n")[1:] == ["    frame 1", r"    frame\t2"]
    line = as_json(made)
    assert (line["returned"], line["traceback"]) == (2, "frame 1\nframe\\t2")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    @property
    def __cause__(self) -> Any:  # type: ignore[override]  # an exception like this one is the point
        raise ValueError


@pytest.mark.parametrize("formatter", [TextFormatter(), JSONFormatter()])
def test_what_cannot_be_shown_has_a_line_of_the_same_shape(formatter: logging.Formatter) -> None:
    line = formatter.format(record("%d\x1b[2J", "one"))
    assert "log.not_shown" in line
    assert "TypeError" in line
    assert "x1b[2J" in line
    assert "\x1b" not in line
    problem = Unprintable("x")
    line = formatter.format(record("job.failed id=%s", "a", exc_info=(Unprintable, problem, None)))
    assert "job.failed" in line
    assert "the exception cannot be shown: ValueError" in line


def test_a_long_traceback_is_cut_in_its_middle() -> None:
    made = record("job.failed", exc_info=failed("x" * 100_000 + "\n" * 1000, depth=2))
    lines = TextFormatter().format(made).split("\n")
    assert len(lines) == 1 + MAX_TRACE_LINES + 1
    assert max(map(len, lines)) < 1100


def test_bytes_in_a_sentence_are_shown_by_their_number() -> None:
    assert (
        TextFormatter().format(record("got %r and %s", b"secret", "b'secret'")).endswith("got '<6 bytes>' and b'...'")
    )
