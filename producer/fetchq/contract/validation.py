"""Rules for single fields of a request. Each returns the value to store, or raises `InvalidRequest`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from fetchq.errors import InvalidRequest

MAX_HEADERS: Final = 128
MAX_HEADERS_BYTES: Final = 65_536
MAX_REQUEST_BODY_BYTES: Final = 1 << 20
MAX_TAGS: Final = 16
MAX_TAG_CHARS: Final = 64
MAX_VALIDATOR_CHARS: Final = 1024
MAX_LIMIT_KEY_CHARS: Final = 200

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, section 5.6.2."""
_VALIDATOR: Final = re.compile(r"[ -~\x80-\xff]+")
"""RFC 9110, section 8.8.3: an ETag may have bytes from 0x80 on."""
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_FORBIDDEN_METHODS: Final = frozenset({"CONNECT", "TRACE", "TRACK"})
"""As in the fetch standard, "forbidden method"."""
_FORBIDDEN_HEADERS: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""The HTTP client sets those that frame or route the message; a second value would contradict it."""


def method_of(method: str) -> str:
    if not isinstance(method, str) or not _TOKEN.fullmatch(method):
        raise InvalidRequest("method", f"{method!r} is not an HTTP method")
    if (upper := method.upper()) in _FORBIDDEN_METHODS:
        raise InvalidRequest("method", f"{upper} is not a fetch")
    return upper


def headers_of(headers: object) -> tuple[tuple[str, str], ...]:
    if isinstance(headers, Mapping):
        headers = headers.items()
    if isinstance(headers, str | bytes) or not isinstance(headers, Iterable):
        raise InvalidRequest("headers", "takes pairs of name and value")
    pairs = []
    size = 0
    for pair in headers:
        match pair:
            case [str(name), str(value)]:
                _header(name, value)
            case _:
                raise InvalidRequest("headers", "takes pairs of name and value, both strings")
        pairs.append((name, value))
        size += len(name) + len(value)
    if len(pairs) > MAX_HEADERS or size > MAX_HEADERS_BYTES:
        raise InvalidRequest("headers", f"more than {MAX_HEADERS} headers or {MAX_HEADERS_BYTES} bytes of them")
    return tuple(pairs)


def _header(name: str, value: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise InvalidRequest("headers", f"{name!r} is not a header name")
    if name.lower() in _FORBIDDEN_HEADERS:
        raise InvalidRequest("headers", f"{name} is set by the client and cannot be given")
    if "\r" in value or "\n" in value or "\0" in value:
        raise InvalidRequest("headers", f"the value of {name} holds a line break or a zero byte")
    if not value.isascii():
        try:
            value.encode("latin-1")
        except UnicodeEncodeError as problem:
            raise InvalidRequest("headers", f"the value of {name} is not Latin-1 text") from problem


def check_body(body: object, method: str) -> None:
    if not isinstance(body, bytes):
        raise InvalidRequest("body", f"takes bytes, not {type(body).__name__}")
    if method in ("GET", "HEAD"):
        raise InvalidRequest("body", f"a {method} request has none")
    if len(body) > MAX_REQUEST_BODY_BYTES:
        raise InvalidRequest("body", f"{len(body)} bytes is more than {MAX_REQUEST_BODY_BYTES}")


def tags_of(tags: object) -> tuple[str, ...]:
    if isinstance(tags, str | bytes) or not isinstance(tags, Iterable):
        raise InvalidRequest("tags", "takes a list of short names")
    names = tuple(tags)
    if len(names) > MAX_TAGS or not all(isinstance(name, str) and 0 < len(name) <= MAX_TAG_CHARS for name in names):
        raise InvalidRequest("tags", f"takes at most {MAX_TAGS} names of 1 to {MAX_TAG_CHARS} characters")
    for name in names:
        check_unicode("tags", name)
    return names


def check_unicode(field: str, text: str) -> None:
    """Refuses lone surrogates, which UTF-8 cannot encode.

    Python decodes command-line bytes that are not UTF-8 to them.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as problem:
            raise InvalidRequest(field, "holds text that is not valid Unicode") from problem


def check_seconds(field: str, value: object, low: float, high: float) -> None:
    if type(value) is not float and type(value) is not int:
        raise InvalidRequest(field, f"takes a number of seconds, not {type(value).__name__}")
    if not low <= value <= high:  # also refuses NaN
        raise InvalidRequest(field, f"{value} is not between {low:.12g} and {high:.12g} seconds")


def check_whole(field: str, value: object, low: int, high: int) -> None:
    if type(value) is not int:
        raise InvalidRequest(field, f"takes a whole number, not {type(value).__name__}")
    if not low <= value <= high:
        raise InvalidRequest(field, f"{value} is not between {low} and {high}")


def check_flag(field: str, value: object) -> None:
    if type(value) is not bool:
        raise InvalidRequest(field, "takes True or False")


def check_name(field: str, value: object) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidRequest(field, "takes a name of 1 to 64 letters, digits, dots, dashes and underscores")


def check_limit_key(field: str, value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_LIMIT_KEY_CHARS or not value.isprintable():
        raise InvalidRequest(field, f"takes 1 to {MAX_LIMIT_KEY_CHARS} printable characters")


def check_moment(field: str, value: object) -> None:
    if not isinstance(value, datetime):
        raise InvalidRequest(field, f"takes a datetime, not {type(value).__name__}")
    if value.tzinfo is None:
        raise InvalidRequest(field, "takes a datetime with a time zone, such as datetime.now(timezone.utc)")


def check_validator(field: str, value: object) -> None:
    """Checks an ETag or Last-Modified. It is sent as received, well-formed or not: servers compare it byte by byte."""
    if value is None:
        return
    if not isinstance(value, str):
        raise InvalidRequest(field, f"takes the header's value as received, not {type(value).__name__}")
    if len(value) > MAX_VALIDATOR_CHARS or not _VALIDATOR.fullmatch(value) or (field != "etag" and not value.isascii()):
        characters = "Latin-1" if field == "etag" else "ASCII"
        raise InvalidRequest(field, f"takes 1 to {MAX_VALIDATOR_CHARS} printable {characters} characters")
    if value.strip() == "*":
        raise InvalidRequest(field, "takes the validator of one copy, not *")
