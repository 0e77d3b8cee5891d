"""The head of a request as it goes over the wire (RFC 9112, sections 3 and 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from aiohttp import InvalidURL

from fetchq import FetchStatus

from .failure import Refused

_REQUEST_LINE: Final = re.compile(r"[!-~]+ [!-~]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""RFC 9110, section 5.5: what no field may hold. A tab may stand in a value."""
_NO_BODY_EXPECTED: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""The methods whose requests say nothing of a length where there is no body (RFC 9110, section 8.6)."""


def request_head(
    method: str,
    target: str,
    host: str,
    own: Mapping[str, str],
    *,
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes | None = None,
) -> bytes:
    """Request line and fields, in UTF-8, with the blank line that ends them.

    `own` are the client's lines by lower-case name: a header of that name stands in the line's place, and one that
    repeats a name or is new comes after them. Raises `Refused` for a header and `InvalidURL` for a target that would
    not stay within its line.
    """
    if not _REQUEST_LINE.fullmatch(f"{method} {target}"):
        raise InvalidURL(target)
    lines = [f"{method} {target} HTTP/1.1\r\nHost: {host}"]
    if headers:
        lines += _fields(own, headers)
    else:
        lines += own.values()
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    elif method not in _NO_BODY_EXPECTED:
        lines.append("Content-Length: 0")
    lines.append("\r\n")
    return "\r\n".join(lines).encode()


def _fields(own: Mapping[str, str], headers: tuple[tuple[str, str], ...]) -> list[str]:
    in_place: dict[str, str] = {}
    more: list[str] = []
    for name, value in headers:
        line = f"{name}: {value}"
        if _CONTROL.search(line):
            raise Refused(FetchStatus.INVALID_JOB, f"the header {name!r} holds a control character")
        lower = name.lower()
        if lower in own and lower not in in_place:
            in_place[lower] = line
        else:
            more.append(line)
    return [*(in_place.get(lower, line) for lower, line in own.items()), *more]
