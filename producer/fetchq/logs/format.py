"""The shapes of a log line: text for people, JSON Lines for programs.

A message of fetchq is an event with fields, `redis.waiting try=%d error=%s`; those of other libraries are sentences.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from .text import one_line, shown, trace_of

MAX_MESSAGE_CHARS: Final = 2000
MAX_TRACE_LINES: Final = 60
_DIRECTIVE: Final = re.compile(r"(?:(\w+)=)?%(?:%|[-#0 +]*\d*(?:\.(\d+))?([a-zA-Z]))")
_EVENT: Final = re.compile(r"[a-z_]+(?:\.[a-z_]+)+")


class _LineFormatter(logging.Formatter):
    """Gives a record that cannot be shown as it is a line that says so."""

    def format(self, record: logging.LogRecord) -> str:
        try:
            return self.line(record)
        except Exception as problem:  # noqa: BLE001 - arguments that do not fit their template, or a `str` of the user's
            template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
            args = (f"{record.pathname}:{record.lineno}", type(problem).__name__, template)
            text = "log.not_shown at=%s error=%s template=%s"
            return self.line(logging.LogRecord(record.name, record.levelno, record.pathname, 0, text, args, None))

    def line(self, record: logging.LogRecord) -> str:
        raise NotImplementedError


class TextFormatter(_LineFormatter):
    """`2026-11-28T12:00:00.123Z WARNING fetchq.engine redis.waiting try=1 ...`; a traceback follows, indented."""

    def line(self, record: logging.LogRecord) -> str:
        message, more = _message(record)
        line = f"{_time(record)} {record.levelname} {record.name} {message}"
        return "\n    ".join([line, *more])


class JSONFormatter(_LineFormatter):
    """One JSON object a line: `time`, `level`, `logger`, `pid`, and for an event `event` and its fields.

    `message` is there for what is no event, and for an event that says more than its fields.
    """

    def line(self, record: logging.LogRecord) -> str:
        message, more = _message(record)
        line: dict[str, Any] = {"time": _time(record), "level": record.levelname.lower()}
        event, fields, says_more = _parsed(record)
        if event:
            line["event"] = event
        if not event or says_more:
            line["message"] = message
        line = {**line, **{name: value for name, value in fields.items() if name not in line}}
        line |= {"logger": record.name, "pid": record.process}
        if more:
            line["traceback"] = "\n".join(more)
        return msgspec.json.encode(line).decode()


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _message(record: logging.LogRecord) -> tuple[str, list[str]]:
    """The message, and the lines that follow it: those of a traceback, and of a message that is written in several."""
    if isinstance(record.args, tuple):
        record.args = tuple(map(shown, record.args))
    text, more = record.getMessage(), []
    if "\n" in str(record.msg):  # not where an argument has line ends
        text, *more = text.split("\n")
    if record.exc_info and record.exc_info[1] is not None:
        more += trace_of(record.exc_info[1], record.exc_info[2]).removesuffix("\n").split("\n")
    if len(more) > MAX_TRACE_LINES:
        half = MAX_TRACE_LINES // 2
        more[half:-half] = [f"... {len(more) - MAX_TRACE_LINES} lines ..."]
    return one_line(text, MAX_MESSAGE_CHARS), [one_line(line) for line in more]


def _parsed(record: logging.LogRecord) -> tuple[str, dict[str, Any], bool]:
    """The event of a record, its fields, and whether its message says more than these."""
    event, names, digits, says_more = _template(str(record.msg))
    args = record.args if isinstance(record.args, tuple) else ()
    if not event or len(args) != len(names):
        return "", {}, True
    fields = {name: _value(arg, places) for name, arg, places in zip(names, args, digits, strict=True) if name}
    return event, fields, says_more


@lru_cache(maxsize=256)
def _template(text: str) -> tuple[str, list[str], list[int | None], bool]:
    """Of a message's template: its event, and for each argument the field's name and number of decimal places."""
    event = _EVENT.match(text)
    if event is None:
        return "", [], [], True
    names: list[str] = []
    digits: list[int | None] = []
    for name, places, kind in _DIRECTIVE.findall(text):
        if kind:
            names.append(name)
            digits.append(int(places) if places else None)
    rest = _DIRECTIVE.sub("", text[event.end() :])
    return event[0], names, digits, bool(rest.strip()) or "" in names


def _value(value: Any, places: int | None) -> Any:
    if isinstance(value, float):
        return round(value, 3 if places is None else places)
    if value is None or type(value) in (bool, int):
        return value
    return one_line(str(shown(value)), MAX_MESSAGE_CHARS)
