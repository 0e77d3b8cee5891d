"""The head of a response: status line and fields (RFC 9112, sections 4 to 6).

What a browser and curl show is shown: a malformed line costs its field and the reuse of the connection, not the
response. Where the message ends must be certain, so the fields that say so are read strictly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from .errors import ResponseMalformed
from .headers import Field, Headers

MAX_HEAD_BYTES: Final = 256 << 10
"""Of a head as a whole, as in browsers. There is no limit on its fields or lines."""

HEAD_END: Final = re.compile(rb"\n\r{0,2}\n")
LONGEST_HEAD_END: Final = 4
_HTTP: Final = b"http/"
_STATUS_LINE: Final = re.compile(rb"HTTP/([1-9](?:\.[0-9])?) {1,16}([1-9][0-9][0-9])(?![0-9])", re.IGNORECASE)
"""Some servers answer a request of HTTP/1.1 in its own form, but with "HTTP/2.0"."""
_AFTER_VERSION: Final = rb"(?: {1,16}(?:[1-9](?:[0-9](?:[0-9](?:[^0-9].*)?)?)?)?)?"
_STATUS_LINE_BEGINNING: Final = re.compile(
    rb"HTTP/(?:[1-9](?:\.(?:[0-9]%b)?|%b))" % (_AFTER_VERSION, _AFTER_VERSION), re.IGNORECASE | re.DOTALL
)
_LONGEST_STATUS: Final = 32
"""By how many bytes a status code has been reached, or never is."""
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_OF_A_NAME: Final = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_IN_A_VALUE: Final = re.compile(rb"[\r\n\0]")
_ZERO_BYTE: Final = "the head of the response contains a zero byte"
"""Refused by curl and browsers, too (RFC 9110, section 5.5)."""
_BLANK: Final = (b" ", b"\t")
_MAX_LENGTH: Final = 1 << 64

_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "connection"})
_SIZING: Final = frozenset({b"content-length", b"transfer-encoding"})

_MAX_MEMO: Final = 2048
_MAX_MEMO_LINE: Final = 256
_fields_of_lines: Final[dict[bytes, Field]] = {}
"""Most lines of most heads were seen before. Emptied when it is full."""
_MAX_PLAIN_DIGITS: Final = 18


class Head(NamedTuple):
    """A parsed head."""

    status: int
    headers: Headers
    chunked: bool
    length: int | None
    """By Content-Length; None: there is none, or Transfer-Encoding overrides it (RFC 9112, section 6.3)."""
    keep_alive: bool
    """Whether the connection may be reused after the response."""
    problem: str | None
    """Why a body cannot be framed for certain."""


def may_become_head(data: bytes | bytearray) -> bool:
    """Whether the beginning of a response can be one in the form of HTTP/1."""
    if len(data) <= len(_HTTP):
        return _HTTP.startswith(data.lower())
    return _STATUS_LINE_BEGINNING.fullmatch(data[:_LONGEST_STATUS]) is not None


def parse_head(data: bytes) -> Head:
    """`data` ends with the empty line that ends the head. Raises `ResponseMalformed`."""
    lines = data.split(b"\r\n")
    status_line = lines[0]
    status, is_old = (_known_status if len(status_line) <= _MAX_MEMO_LINE else _status_of)(status_line)
    if lines[-1] or lines[-2] or b"\n" in status_line:
        return _irregular_head(data)
    known = _fields_of_lines.get
    fields = [field for line in lines[1:-2] if (field := known(line) or _field_of(line)) is not None]
    if len(fields) != len(lines) - 3:
        return _irregular_head(data)
    framing = [field for field in fields if field[2]]
    if len(framing) == 1 and framing[0][3] is not None and not is_old:
        return Head(status, Headers(fields), False, framing[0][3], True, None)
    return _framed(status, is_old, fields, malformed=False)


def _status_of(line: bytes) -> tuple[int, bool]:
    """The status code, and whether a connection of this version ends unless the server keeps it, as in HTTP/1.0.

    Raises `ResponseMalformed`.
    """
    found = _STATUS_LINE.match(line)
    if found is None:
        raise ResponseMalformed("the response is not well-formed HTTP")
    if b"\0" in line:
        raise ResponseMalformed(_ZERO_BYTE)
    return int(found[2]), found[1] == b"1.0" or found[1][:2] != b"1."


_known_status: Final = lru_cache(256)(_status_of)


def _irregular_head(data: bytes) -> Head:
    """The same for a head with a line that is not regular.

    Lines may end with a line feed alone (RFC 9112, section 2.2), and a folded line continues the one before (section
    5.2). Raises `ResponseMalformed` for a malformed line that may be meant to frame the body.
    """
    if b"\0" in data:
        raise ResponseMalformed(_ZERO_BYTE)
    status, is_old = _status_of(data.partition(b"\n")[0])
    fields: list[Field] = []
    malformed = False
    for line in _unfolded(data):
        field = None if line.startswith(_BLANK) else _field_of(line)
        if field is not None:
            fields.append(field)
            continue
        malformed = True
        if line.startswith(b"\r"):  # where curl, unlike others, ends the head
            raise ResponseMalformed("it is not certain where the head of the response ends")
        name = _NOT_OF_A_NAME.sub(b"", line.partition(b":")[0]).lower()
        if name in _SIZING:
            raise ResponseMalformed(f"the {name.decode()} field of the response is malformed")
    return _framed(status, is_old, fields, malformed=malformed)


def _field_of(line: bytes) -> Field | None:
    """The field of a regular line; None for any other."""
    name, colon, value = line.partition(b":")
    if not colon or _NOT_IN_A_VALUE.search(value) or not _NAME.fullmatch(name):
        return None
    text, shown = name.decode("ascii"), value.strip(b" \t").decode("latin-1")
    key = text.lower()
    is_number = key == "content-length" and shown.isascii() and shown.isdigit() and len(shown) <= _MAX_PLAIN_DIGITS
    is_framing = key in _FRAMING and not (key == "connection" and shown.lower() == "keep-alive")
    field = Field(key, (text, shown), is_framing, int(shown) if is_number else None)
    if len(line) <= _MAX_MEMO_LINE:
        if len(_fields_of_lines) >= _MAX_MEMO:
            _fields_of_lines.clear()
        _fields_of_lines[line] = field
    return field


def _unfolded(data: bytes) -> Iterator[bytes]:
    """The lines after the status line, each with those that continue it."""
    lines = [line.rstrip(b"\r") for line in data.split(b"\n")[1:-2]]
    parts: list[bytes] = []
    for line in lines:
        if parts and line.startswith(_BLANK):
            parts.append(line.strip(b" \t"))
            continue
        if parts:
            yield b" ".join(parts)
        parts = [line]
    if parts:
        yield b" ".join(parts)


def _framed(status: int, is_old: bool, fields: list[Field], *, malformed: bool) -> Head:
    """The head with the framing of its body (RFC 9112, section 6.3)."""
    is_coded = False
    codings: list[str] = []
    lengths: list[str] = []
    options = ""
    for key, (_, value), _, _ in fields:
        if key not in _FRAMING:
            continue
        if key == "content-length":
            lengths += value.split(",")
        elif key == "connection":
            options = f"{options},{value.lower()}" if options else value.lower()
        else:
            is_coded = True
            codings += [coding for each in value.split(",") if (coding := each.strip(" \t").lower())]
    keep_alive = not malformed and _keeps_alive(options, is_old)
    length = problem = None
    chunked = False
    if codings == ["chunked"]:
        chunked = True
        keep_alive = keep_alive and not lengths and not is_old
    elif is_coded:
        keep_alive = False
        named = set(codings) - {"identity"}  # what RFC 2616 called no coding
        chunked = bool(named)
        if named and named != {"chunked"}:  # the only one that is accepted unasked (RFC 9112, section 7)
            problem = "the response has a transfer coding other than chunked"
    if lengths and not chunked:
        length, problem = _length_of(lengths)
    return Head(status, Headers(fields), chunked, length, keep_alive and problem is None, problem)


def _keeps_alive(options: str, is_old: bool) -> bool:
    """By the options of the Connection fields, in lower case (RFC 9112, section 9.3)."""
    if not options:
        return not is_old
    if options == "keep-alive":
        return True
    named = [option.strip(" \t") for option in options.split(",")]
    return "close" not in named and (not is_old or "keep-alive" in named)


def _length_of(members: list[str]) -> tuple[int | None, str | None]:
    """The length, or why there is none. Equal ones are one (RFC 9110, section 8.6), empty members none (5.6.1)."""
    lengths = set()
    for digits in [digits for member in members if (digits := member.strip(" \t"))] or [""]:
        if not digits.isdigit() or not digits.isascii() or len(digits.lstrip("0")) > len(str(_MAX_LENGTH)):
            return None, "the Content-Length of the response is malformed"
        lengths.add(int(digits.lstrip("0") or "0"))
    length = lengths.pop()
    if lengths or length >= _MAX_LENGTH:
        return None, "the Content-Length fields of the response differ" if lengths else "the Content-Length is too long"
    return length, None
