"""Which responses a shared cache may store (RFC 9111, section 3). Pure."""

from __future__ import annotations

from typing import Final

from .directives import Directives, covers_all_fields
from .stored_response import StoredResponse

CACHED_METHODS: Final = frozenset({"GET", "HEAD"})
HEURISTIC_STATUSES: Final = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
"""RFC 9110, section 15.1, without 206: partial responses are not stored."""
_UNDERSTOOD_STATUSES: Final = HEURISTIC_STATUSES | {302, 303, 307, 400, 403, 429, 500, 502, 503, 504}
"""Statuses whose caching rules are those applied here: what `must-understand` asks for (section 5.2.2.3)."""

MAX_VARY_NAMES: Final = 32
"""A response that varies by more headers is not stored: each look-up compares all of them."""


def may_store(requested: Directives, has_credentials: bool, stored: StoredResponse) -> bool:
    """Whether the response to a GET or HEAD may be stored. `has_credentials` says that the request was authenticated.

    Stricter than the RFC: a cookie, sent or set, needs the same permission as Authorization (section 3.5).
    """
    given = stored.directives
    if stored.status < 200 or stored.status in (206, 304):
        return False
    if "must-understand" in given:
        if stored.status not in _UNDERSTOOD_STATUSES:
            return False
    elif "no-store" in given:
        return False
    if "no-store" in requested or covers_all_fields(given, "private"):
        return False
    if "*" in stored.vary or len(stored.vary) > MAX_VARY_NAMES:
        return False
    shared = "public" in given or "s-maxage" in given
    if has_credentials and not (shared or "must-revalidate" in given):
        return False
    if "Set-Cookie" in stored.headers and not shared:
        return False
    explicit = any(name in given for name in ("max-age", "s-maxage", "public")) or "Expires" in stored.headers
    return explicit or (stored.status in HEURISTIC_STATUSES and stored.has_validator)
