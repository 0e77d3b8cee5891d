"""The head of a request as it is sent (RFC 9112, sections 3 and 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from fetchq import FetchStatus
from fetchq_worker.fetch.transport.errors import InvalidTarget

from .errors import RequestRefused

_TARGET: Final = re.compile(r"[!-~]+")
_REQUEST_LINE: Final = re.compile(r"[!-~]+ [!-~]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""Characters that no field may contain (RFC 9110, section 5.5). A tab is allowed in a value."""
_NO_BODY_EXPECTED: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods whose requests have no Content-Length if they have no body (RFC 9110, section 8.6)."""


def request_head(
    method: str,
    target: str,
    host: str,
    default_lines: Mapping[str, str],
    *,
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes | None = None,
) -> bytes:
    """Request line and fields, in Latin-1 (RFC 9110, section 5.5), with the empty line that ends them.

    `default_lines` are the client's fields by lower-case name. A header of such a name replaces its line; all other
    headers follow. Raises `RequestRefused` for a header and `InvalidTarget` for a target that would not stay in its
    line.
    """
    if not _REQUEST_LINE.fullmatch(f"{method} {target}"):
        raise InvalidTarget(target)
    lines = [f"{method} {target} HTTP/1.1\r\nHost: {host}"]
    if headers:
        lines += _fields(default_lines, headers)
    else:
        lines += default_lines.values()
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    elif method not in _NO_BODY_EXPECTED:
        lines.append("Content-Length: 0")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("latin-1")


def plain_head(target: str, tail: bytes) -> bytes:
    """As `request_head` for a GET without headers and body; `tail` is the head of such a request after its target."""
    if not _TARGET.fullmatch(target):
        raise InvalidTarget(target)
    return b"GET %b%b" % (target.encode("ascii"), tail)


def plain_tail(host: str, default_lines: Mapping[str, str]) -> bytes:
    """The tail of a head for `plain_head`."""
    return request_head("GET", "/", host, default_lines).removeprefix(b"GET /")


def _fields(default_lines: Mapping[str, str], headers: tuple[tuple[str, str], ...]) -> list[str]:
    replaced: dict[str, str] = {}
    more: list[str] = []
    for name, value in headers:
        line = f"{name}: {value}"
        if _CONTROL.search(line):
            raise RequestRefused(FetchStatus.INVALID_JOB, f"the header {name!r} contains a control character")
        if not line.isascii() and max(line) > "\xff":
            raise RequestRefused(FetchStatus.INVALID_JOB, f"the header {name!r} contains a character above U+00FF")
        lower = name.lower()
        if lower in default_lines and lower not in replaced:
            replaced[lower] = line
        else:
            more.append(line)
    return [*(replaced.get(lower, line) for lower, line in default_lines.items()), *more]
