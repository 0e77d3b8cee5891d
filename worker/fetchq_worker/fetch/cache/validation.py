"""Conditions: those with which the cache validates a stored response, and those of the request itself. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from fetchq_worker.fetch.http.redirect import Hop
from fetchq_worker.fetch.transport.headers import Headers
from fetchq_worker.http_date import http_date

from .stored_response import StoredResponse, storable_fields

_DESCRIBES_BODY: Final = frozenset({"content-encoding", "content-length", "content-range", "content-type"})
"""Fields that a 304 does not update (RFC 9111, section 3.2)."""
_ENTITY_TAG: Final = re.compile(r'(?:W/)?("[^"]*")|\*')


def validators_of(stored: StoredResponse) -> tuple[tuple[str, str], ...]:
    """The headers of a validation request (RFC 9111, section 4.3.1)."""
    pairs = (("If-None-Match", stored.headers.get("ETag")), ("If-Modified-Since", stored.headers.get("Last-Modified")))
    return tuple([(name, value) for name, value in pairs if value is not None])


def validates(stored: StoredResponse, headers: Headers) -> bool:
    """Whether a response with these headers is about the stored representation: by its ETag, if both have one."""
    named, held = headers.get("ETag"), stored.headers.get("ETag")
    return named is None or held is None or named.removeprefix("W/") == held.removeprefix("W/")


def differs(stored: StoredResponse, headers: Headers) -> bool:
    """Whether a response to HEAD shows that the stored one is outdated (RFC 9111, section 4.3.5)."""
    names = ("Last-Modified", "Content-Length")
    pairs = [(headers.get(name), stored.headers.get(name)) for name in names]
    return not validates(stored, headers) or any(None not in pair and pair[0] != pair[1] for pair in pairs)


def freshened(stored: StoredResponse, headers: Headers, requested_at_s: float, received_at_s: float) -> StoredResponse:
    """The stored response, updated by a 304 (RFC 9111, section 3.2)."""
    updates = [pair for pair in storable_fields(headers).items() if pair[0].lower() not in _DESCRIBES_BODY]
    replaced = {name.lower() for name, _ in updates} | {"age"}
    kept = [pair for pair in stored.headers.items() if pair[0].lower() not in replaced]
    updated = storable_fields(Headers.of([*kept, *updates]))
    return StoredResponse(stored.status, updated, stored.body, requested_at_s, received_at_s)


def is_not_modified(hop: Hop, stored: StoredResponse) -> bool:
    """Whether the request's own condition makes 304 the response (RFC 9110, section 13.2.2)."""
    tags = [value for name, value in hop.headers if name.lower() == "if-none-match"]
    if tags:
        held = _ENTITY_TAG.fullmatch(stored.headers.get("ETag", ""))
        named = [match[1] or match[0] for match in _ENTITY_TAG.finditer(",".join(tags))]
        return "*" in named or (held is not None and held[1] in named)
    since = next((value for name, value in hop.headers if name.lower() == "if-modified-since"), "")
    date = http_date(since, datetime.fromtimestamp(stored.received_at_s, UTC))
    modified_s = stored.date_s("Last-Modified")
    if date is None:
        return False
    if modified_s is None:
        modified_s = stored.date_s("Date") or stored.received_at_s  # RFC 9111, section 4.3.2
    return modified_s <= date.timestamp()
