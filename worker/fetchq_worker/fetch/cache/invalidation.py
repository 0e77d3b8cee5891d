"""Which URLs an unsafe request invalidates (RFC 9111, section 4.4). Pure."""

from __future__ import annotations

from typing import Final

from fetchq import InvalidRequest
from fetchq.contract.urls import origin_of
from fetchq_worker.fetch.http.redirect import resolve
from fetchq_worker.fetch.transport.headers import Headers

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "PROPFIND", "QUERY", "REPORT", "SEARCH"})
"""RFC 9110, section 9.2.1, and the IANA's registry of methods. TRACE is not fetched."""


def invalidated_urls(url: str, status: int, headers: Headers) -> tuple[str, ...]:
    """The URLs whose stored responses the response to an unsafe request invalidates; none if it is an error.

    They are the serialised URL of the request and, of the same origin, those in Location and Content-Location.
    """
    if not 200 <= status < 400:
        return ()
    found = {url: None}
    for name in ("Location", "Content-Location"):
        for value in headers.getall(name):
            try:
                named = resolve(url, value)
            except InvalidRequest:
                continue
            if origin_of(named) == origin_of(url):
                found[named] = None
    return tuple(found)
