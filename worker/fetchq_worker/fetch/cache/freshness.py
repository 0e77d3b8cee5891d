"""When an answer may be stored and used again: RFC 9111's rules for a shared cache. Pure: no clock, no store.

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
"""How long an answer is kept at most, whatever it says."""
MAX_HEURISTIC_S: Final = 86_400.0
VALIDATION_S: Final = 86_400.0
"""How much longer one is kept that the server can be asked about."""

_HEURISTIC_STATUSES: Final = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
"""RFC 9110, section 15.1, without 206: no part is stored."""
_DESCRIBES_BODY: Final = frozenset({"content-encoding", "content-length", "content-range", "content-type"})
"""RFC 9111, section 3.2: what a 304 does not change."""
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


class StoredAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A complete answer, its body decoded."""

    status: int
    headers: Headers
    """In Latin-1."""
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


def may_store(method: str, asked: Mapping[str, str], has_credentials: bool, stored: StoredAnswer) -> bool:
    """RFC 9111, section 3. `asked` are the request's directives; `has_credentials` says that it named its sender.

    Stricter than the RFC in that a cookie, sent or set, needs the same permission as Authorization (section 3.5).
    """
    given = directives_of(stored.values("cache-control"))
    if method not in CACHED_METHODS or stored.status < 200 or stored.status in (206, 304):
        return False
    if "no-store" in asked or "no-store" in given or "private" in given or "*" in vary_of(stored):
        return False
    shared = "public" in given or "s-maxage" in given
    if has_credentials and not (shared or "must-revalidate" in given):
        return False
    if stored.values("set-cookie") and not shared:
        return False
    explicit = any(name in given for name in ("max-age", "s-maxage", "public")) or bool(stored.values("expires"))
    return explicit or (stored.status in _HEURISTIC_STATUSES and has_validator(stored))


def is_fresh(asked: Mapping[str, str], stored: StoredAnswer, now_s: float) -> bool:
    """Whether the answer may be used without asking the server (RFC 9111, section 4.2)."""
    given = directives_of(stored.values("cache-control"))
    if "no-cache" in given or "no-cache" in asked:
        return False
    age = age_s(stored, now_s)
    oldest = _seconds(asked, "max-age")
    if oldest is not None and age > oldest:
        return False
    return lifetime_s(stored) > age + (_seconds(asked, "min-fresh") or 0.0)


def may_stand_in(asked: Mapping[str, str], stored: StoredAnswer, now_s: float) -> bool:
    """Whether the answer, stale, may stand in for a server that fails: stale-if-error (RFC 5861, section 4)."""
    given = directives_of(stored.values("cache-control"))
    if any(name in given for name in ("no-cache", "must-revalidate", "proxy-revalidate", "s-maxage")):
        return False  # RFC 9111, section 4.2.4
    if "no-cache" in asked:
        return False
    allowed_s = max(_seconds(given, "stale-if-error") or 0.0, _seconds(asked, "stale-if-error") or 0.0)
    return age_s(stored, now_s) < lifetime_s(stored) + allowed_s


def keep_s(stored: StoredAnswer, now_s: float) -> float:
    """How long it is worth keeping: while it is fresh, can stand in, or can be asked about."""
    given = directives_of(stored.values("cache-control"))
    left_s = lifetime_s(stored) - age_s(stored, now_s)
    after_s = max(_seconds(given, "stale-if-error") or 0.0, VALIDATION_S if has_validator(stored) else 0.0)
    return max(0.0, min(left_s + after_s, MAX_LIFETIME_S))


def lifetime_s(stored: StoredAnswer) -> float:
    """RFC 9111, section 4.2.1; what is malformed means stale."""
    given = directives_of(stored.values("cache-control"))
    for name in ("s-maxage", "max-age"):
        seconds = _seconds(given, name)
        if seconds is not None:
            return seconds
    date_s = _moment_s(stored.values("date"))
    from_s = stored.received_at_s if date_s is None else date_s
    expires = stored.values("expires")
    if expires:
        until_s = _moment_s(expires[:1])
        return 0.0 if until_s is None else max(0.0, until_s - from_s)
    modified_s = _moment_s(stored.values("last-modified"))
    if modified_s is None or stored.status not in _HEURISTIC_STATUSES:
        return 0.0
    return min(max(0.0, from_s - modified_s) / 10, MAX_HEURISTIC_S)  # section 4.2.2


def age_s(stored: StoredAnswer, now_s: float) -> float:
    """RFC 9111, section 4.2.3."""
    date_s = _moment_s(stored.values("date"))
    apparent_s = 0.0 if date_s is None else max(0.0, stored.received_at_s - date_s)
    ages = stored.values("age")
    told_s = float(ages[0]) if ages and ages[0].isascii() and ages[0].isdigit() and len(ages[0]) < 12 else 0.0
    corrected_s = told_s + max(0.0, stored.received_at_s - stored.requested_at_s)
    return max(apparent_s, corrected_s) + max(0.0, now_s - stored.received_at_s)


def has_validator(stored: StoredAnswer) -> bool:
    return bool(stored.values("etag") or stored.values("last-modified"))


def validators_of(stored: StoredAnswer) -> Headers:
    """The headers by which the server is asked whether the answer still holds (RFC 9111, section 4.3.1)."""
    tags, dates = stored.values("etag"), stored.values("last-modified")
    return (*(("If-None-Match", tag) for tag in tags[:1]), *(("If-Modified-Since", date) for date in dates[:1]))


def is_about(stored: StoredAnswer, headers: Headers) -> bool:
    """Whether a 304 with these headers is about the stored answer: by its ETag, if it has one (section 4.3.4)."""
    named, held = values_of(headers, "etag"), stored.values("etag")
    return not named or not held or named[0].removeprefix("W/") == held[0].removeprefix("W/")


def freshened(stored: StoredAnswer, headers: Headers, requested_at_s: float, received_at_s: float) -> StoredAnswer:
    """The answer after a 304 (RFC 9111, section 3.2)."""
    news = storable_headers(headers)
    replaced = {name.lower() for name, _ in news} - _DESCRIBES_BODY
    kept = [pair for pair in stored.headers if pair[0].lower() not in replaced | {"age"}]
    added = [pair for pair in news if pair[0].lower() in replaced]
    return StoredAnswer(stored.status, (*kept, *added), stored.body, requested_at_s, received_at_s)


def storable_headers(headers: Headers) -> Headers:
    """All but those of one connection (RFC 9111, section 3.1)."""
    named = {name.strip().lower() for value in values_of(headers, "connection") for name in value.split(",")}
    return tuple(pair for pair in headers if pair[0].lower() not in named | _HOP_BY_HOP)


def vary_of(stored: StoredAnswer) -> list[str]:
    """The names of the request headers that chose this answer, in lower case and in order (RFC 9111, section 4.1)."""
    names = {name.strip().lower() for value in stored.values("vary") for name in value.split(",")}
    return sorted(names - {""})


def _seconds(directives: Mapping[str, str], name: str) -> float | None:
    value = directives.get(name)
    if value is None:
        return None
    return float(value) if value.isascii() and value.isdigit() and len(value) < 12 else 0.0


def _moment_s(values: list[str]) -> float | None:
    if not values:
        return None
    try:
        moment = parsedate_to_datetime(values[0])
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
