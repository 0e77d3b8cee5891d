"""When a response may be stored and reused: the rules of RFC 9111 for a shared cache. Pure: no clock, no store.

Why not hishel's state machine: docs/adr/0007-http-caching-rules-without-hishel.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

Headers = tuple[tuple[str, str], ...]

CACHED_METHODS: Final = frozenset({"GET", "HEAD"})
MAX_LIFETIME_S: Final = 7 * 86_400.0
"""The longest time for which a response is stored."""
MAX_HEURISTIC_S: Final = 86_400.0
VALIDATION_S: Final = 86_400.0
"""How much longer than fresh a response with a validator is stored."""

_HEURISTIC_STATUSES: Final = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
"""RFC 9110, section 15.1, without 206: partial responses are not stored."""
_DESCRIBES_BODY: Final = frozenset({"content-encoding", "content-length", "content-range", "content-type"})
"""Fields that a 304 does not update (RFC 9111, section 3.2)."""
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_DIRECTIVE: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:=(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]*)))?")
_MAX_HEADER_CHARS: Final = 4096


class StoredResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """A complete response with its decoded body."""

    status: int
    headers: Headers
    """Decoded as Latin-1."""
    body: bytes
    requested_at_s: float
    received_at_s: float

    def values(self, name: str) -> list[str]:
        return values_of(self.headers, name)


def values_of(headers: Headers, name: str) -> list[str]:
    """All values of a header; `name` in lower case."""
    return [value for key, value in headers if key.lower() == name]


def directives_of(values: Iterable[str]) -> dict[str, str]:
    """Cache-Control (RFC 9111, section 5.2): names in lower case; the first of a repeated one counts."""
    found: dict[str, str] = {}
    for name, quoted, plain in _DIRECTIVE.findall(",".join(values)[:_MAX_HEADER_CHARS]):
        found.setdefault(name.lower(), quoted or plain)
    return found


def may_store(method: str, requested: Mapping[str, str], has_credentials: bool, stored: StoredResponse) -> bool:
    """RFC 9111, section 3. `requested` are the request's directives; `has_credentials` says that it was authenticated.

    Stricter than the RFC: a cookie, sent or set, needs the same permission as Authorization (section 3.5).
    """
    given = directives_of(stored.values("cache-control"))
    if method not in CACHED_METHODS or stored.status < 200 or stored.status in (206, 304):
        return False
    if "no-store" in requested or "no-store" in given or "private" in given or "*" in vary_of(stored):
        return False
    shared = "public" in given or "s-maxage" in given
    if has_credentials and not (shared or "must-revalidate" in given):
        return False
    if stored.values("set-cookie") and not shared:
        return False
    explicit = any(name in given for name in ("max-age", "s-maxage", "public")) or bool(stored.values("expires"))
    return explicit or (stored.status in _HEURISTIC_STATUSES and has_validator(stored))


def is_fresh(requested: Mapping[str, str], stored: StoredResponse, now_s: float) -> bool:
    """Whether the response may be used without validation (RFC 9111, section 4.2)."""
    given = directives_of(stored.values("cache-control"))
    if "no-cache" in given or "no-cache" in requested:
        return False
    age = age_s(stored, now_s)
    oldest = _seconds(requested, "max-age")
    if oldest is not None and age > oldest:
        return False
    return lifetime_s(stored) > age + (_seconds(requested, "min-fresh") or 0.0)


def may_use_stale(requested: Mapping[str, str], stored: StoredResponse, now_s: float) -> bool:
    """Whether a stale response may be used after a server error: stale-if-error (RFC 5861, section 4)."""
    given = directives_of(stored.values("cache-control"))
    if any(name in given for name in ("no-cache", "must-revalidate", "proxy-revalidate", "s-maxage")):
        return False  # RFC 9111, section 4.2.4
    if "no-cache" in requested:
        return False
    allowed_s = max(_seconds(given, "stale-if-error") or 0.0, _seconds(requested, "stale-if-error") or 0.0)
    return age_s(stored, now_s) < lifetime_s(stored) + allowed_s


def keep_s(stored: StoredResponse, now_s: float) -> float:
    """How long to store a response: while it is fresh, usable after an error, or can be validated."""
    given = directives_of(stored.values("cache-control"))
    left_s = lifetime_s(stored) - age_s(stored, now_s)
    after_s = max(_seconds(given, "stale-if-error") or 0.0, VALIDATION_S if has_validator(stored) else 0.0)
    return max(0.0, min(left_s + after_s, MAX_LIFETIME_S))


def lifetime_s(stored: StoredResponse) -> float:
    """The freshness lifetime (RFC 9111, section 4.2.1); 0 if its fields are malformed."""
    given = directives_of(stored.values("cache-control"))
    for name in ("s-maxage", "max-age"):
        seconds = _seconds(given, name)
        if seconds is not None:
            return seconds
    date_s = _date_s(stored.values("date"))
    from_s = stored.received_at_s if date_s is None else date_s
    expires = stored.values("expires")
    if expires:
        until_s = _date_s(expires[:1])
        return 0.0 if until_s is None else max(0.0, until_s - from_s)
    modified_s = _date_s(stored.values("last-modified"))
    if modified_s is None or stored.status not in _HEURISTIC_STATUSES:
        return 0.0
    return min(max(0.0, from_s - modified_s) / 10, MAX_HEURISTIC_S)  # section 4.2.2


def age_s(stored: StoredResponse, now_s: float) -> float:
    """The age of the response (RFC 9111, section 4.2.3)."""
    date_s = _date_s(stored.values("date"))
    apparent_s = 0.0 if date_s is None else max(0.0, stored.received_at_s - date_s)
    ages = stored.values("age")
    age_field_s = float(ages[0]) if ages and ages[0].isascii() and ages[0].isdigit() and len(ages[0]) < 12 else 0.0
    corrected_s = age_field_s + max(0.0, stored.received_at_s - stored.requested_at_s)
    return max(apparent_s, corrected_s) + max(0.0, now_s - stored.received_at_s)


def has_validator(stored: StoredResponse) -> bool:
    return bool(stored.values("etag") or stored.values("last-modified"))


def validators_of(stored: StoredResponse) -> Headers:
    """The headers of a validation request (RFC 9111, section 4.3.1)."""
    tags, dates = stored.values("etag"), stored.values("last-modified")
    return (*(("If-None-Match", tag) for tag in tags[:1]), *(("If-Modified-Since", date) for date in dates[:1]))


def validates(stored: StoredResponse, headers: Headers) -> bool:
    """Whether a 304 with these headers selects the stored response: by its ETag, if any (RFC 9111, section 4.3.4)."""
    named, held = values_of(headers, "etag"), stored.values("etag")
    return not named or not held or named[0].removeprefix("W/") == held[0].removeprefix("W/")


def freshened(stored: StoredResponse, headers: Headers, requested_at_s: float, received_at_s: float) -> StoredResponse:
    """The stored response, updated by a 304 (RFC 9111, section 3.2)."""
    updates = storable_headers(headers)
    replaced = {name.lower() for name, _ in updates} - _DESCRIBES_BODY
    kept = [pair for pair in stored.headers if pair[0].lower() not in replaced | {"age"}]
    added = [pair for pair in updates if pair[0].lower() in replaced]
    return StoredResponse(stored.status, (*kept, *added), stored.body, requested_at_s, received_at_s)


def storable_headers(headers: Headers) -> Headers:
    """All headers but the hop-by-hop ones (RFC 9111, section 3.1)."""
    named = {name.strip().lower() for value in values_of(headers, "connection") for name in value.split(",")}
    return tuple(pair for pair in headers if pair[0].lower() not in named | _HOP_BY_HOP)


def vary_of(stored: StoredResponse) -> list[str]:
    """The names in Vary, in lower case and sorted (RFC 9111, section 4.1)."""
    names = {name.strip().lower() for value in stored.values("vary") for name in value.split(",")}
    return sorted(names - {""})


def _seconds(directives: Mapping[str, str], name: str) -> float | None:
    value = directives.get(name)
    if value is None:
        return None
    return float(value) if value.isascii() and value.isdigit() and len(value) < 12 else 0.0


def _date_s(values: list[str]) -> float | None:
    if not values:
        return None
    try:
        date = parsedate_to_datetime(values[0])
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
