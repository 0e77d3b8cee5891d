"""When a stored response may be used: the rules of RFC 9111 for a shared cache. Pure: no clock, no store.

Why not hishel's state machine: docs/adr/0007-http-caching-rules-without-hishel.md.
"""

from __future__ import annotations

from typing import Final

from .directives import Directives, covers_all_fields, delta_seconds, seconds_of
from .stored_response import StoredResponse
from .storing import HEURISTIC_STATUSES

MAX_LIFETIME_S: Final = 7 * 86_400.0
"""The longest time for which a response is stored."""
MAX_HEURISTIC_S: Final = 86_400.0
VALIDATION_S: Final = 86_400.0
"""How much longer than fresh a response with a validator is stored."""

_NEVER_STALE: Final = frozenset({"must-revalidate", "proxy-revalidate", "s-maxage"})
"""A response with one of these is not used once it is stale (section 4.2.4)."""


def is_usable(requested: Directives, stored: StoredResponse, now_s: float) -> bool:
    """Whether the response may be used without validation (sections 4.2 and 5.2.1)."""
    if covers_all_fields(stored.directives, "no-cache") or "no-cache" in requested:
        return False
    age = age_s(stored, now_s)
    oldest = seconds_of(requested, "max-age")
    if oldest is not None and age > oldest:
        return False
    left_s = lifetime_s(stored) - age
    if left_s > (seconds_of(requested, "min-fresh") or 0.0):
        return True
    if "max-stale" not in requested or not _NEVER_STALE.isdisjoint(stored.directives):
        return False
    return not requested["max-stale"] or -left_s <= (seconds_of(requested, "max-stale") or 0.0)


def is_usable_after_error(requested: Directives, stored: StoredResponse, now_s: float) -> bool:
    """Whether a stale response may be used after a server error: stale-if-error (RFC 5861, section 4)."""
    given = stored.directives
    if covers_all_fields(given, "no-cache") or not _NEVER_STALE.isdisjoint(given) or "no-cache" in requested:
        return False
    allowed_s = max(seconds_of(given, "stale-if-error") or 0.0, seconds_of(requested, "stale-if-error") or 0.0)
    return age_s(stored, now_s) < lifetime_s(stored) + allowed_s


def keep_s(stored: StoredResponse, now_s: float) -> float:
    """How long to store a response: while it is fresh, usable after an error, or can be validated."""
    left_s = lifetime_s(stored) - age_s(stored, now_s)
    usable_s = left_s + (seconds_of(stored.directives, "stale-if-error") or 0.0)
    if stored.has_validator:
        usable_s = max(usable_s, max(left_s, 0.0) + VALIDATION_S)
    return max(0.0, min(usable_s, MAX_LIFETIME_S))


def lifetime_s(stored: StoredResponse) -> float:
    """The freshness lifetime (section 4.2.1); 0 if its fields are malformed or contradict each other."""
    for name in ("s-maxage", "max-age"):
        seconds = seconds_of(stored.directives, name)
        if seconds is not None:
            return seconds
    date_s = stored.date_s("Date")
    from_s = stored.received_at_s if date_s is None else date_s
    if "Expires" in stored.headers:
        until_s = stored.date_s("Expires")
        return 0.0 if until_s is None else max(0.0, until_s - from_s)
    modified_s = stored.date_s("Last-Modified")
    if modified_s is None or not (stored.status in HEURISTIC_STATUSES or "public" in stored.directives):
        return 0.0
    return min(max(0.0, from_s - modified_s) / 10, MAX_HEURISTIC_S)  # section 4.2.2


def age_s(stored: StoredResponse, now_s: float) -> float:
    """The age of the response (section 4.2.3). Of several Age values the first counts (section 5.1)."""
    date_s = stored.date_s("Date")
    apparent_s = 0.0 if date_s is None else max(0.0, stored.received_at_s - date_s)
    first, _, _ = stored.headers.get("Age", "").partition(",")
    given_s = delta_seconds(first.strip()) or 0.0
    corrected_s = given_s + max(0.0, stored.received_at_s - stored.requested_at_s)
    return max(apparent_s, corrected_s) + max(0.0, now_s - stored.received_at_s)
