"""Text that is safe in a log line: one line, of bounded length, without secrets of URLs and without payloads."""

from __future__ import annotations

import re
import traceback
from types import TracebackType
from typing import Any, Final

MAX_CHARS: Final = 1000
NOT_SHOWN: Final = "the exception cannot be shown"
"""Begins the last line of such a traceback."""

_USER_INFO: Final = re.compile(r"(://)[^/\s@'\"]{1,300}@")
_QUERY: Final = re.compile(r"(://[^\s?#'\"<>]*|(?<!\S)/[^\s?#'\"<>]*)[?#][^\s'\"<>]*")
_BYTES: Final = re.compile(r"\bb(?:'(?:[^'\\]|\\.)*'?|\"(?:[^\"\\]|\\.)*\"?)")


def one_line(text: str, max_chars: int = MAX_CHARS) -> str:
    """`text` with control characters escaped, so that it cannot look like another line, and cut to `max_chars`.

    The query, the fragment and the user information of a URL are left out, and the content of a bytes literal: they can
    hold secrets and data of users.
    """
    text = text[: 4 * max_chars]
    if "://" in text or "/" in text:
        text = _USER_INFO.sub(r"\1...@", text)
        text = _QUERY.sub(r"\1?...", text)
    if "b'" in text or 'b"' in text:
        text = _BYTES.sub("b'...'", text)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else _escaped(char) for char in text)
    return text if len(text) <= max_chars else f"{text[: max_chars - 3]}..."


def public_url(url: str) -> str:
    """A serialised URL as `one_line` shows it: without user information, and `?...` in place of query and fragment."""
    query, fragment = url.find("?"), url.find("#")
    end = query if query >= 0 and (fragment < 0 or query < fragment) else fragment
    if end >= 0:
        url = f"{url[:end]}?..."
    return one_line(url) if "@" in url or len(url) > MAX_CHARS or not url.isprintable() else url


def refused_url(text: str) -> str:
    """A text that was refused as a URL, in the same form: its user information may be anything."""
    path = text[: min(_found(text, "?"), _found(text, "#"))]
    if "@" in path:
        text = f"...@{text[path.rindex('@') + 1 :]}"
    elif "@" in text and "/" not in path.partition("://")[2]:  # perhaps `?` or `#` in a password
        text = f"...@{text.rpartition('@')[2]}"
    return public_url(text)


def _found(text: str, mark: str) -> int:
    place = text.find(mark)
    return len(text) if place < 0 else place


def shown(value: Any) -> Any:
    """An argument of a log line: bytes by their number alone, anything else as it is."""
    return f"<{len(value)} bytes>" if isinstance(value, bytes | bytearray | memoryview) else value


def trace_of(problem: BaseException, trace: TracebackType | None) -> str:
    """The traceback as Python prints it; of classes that it cannot print, the frames."""
    try:
        return "".join(traceback.format_exception(type(problem), problem, trace))
    except BaseException as failure:  # noqa: BLE001 - the classes are the user's, those of the causes too
        frames = "".join(traceback.format_tb(trace))
        return f"Traceback (most recent call last):\n{frames}{NOT_SHOWN}: {type(failure).__name__}\n"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
