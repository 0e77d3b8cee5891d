"""A response in the cache, and which of its fields are stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from fetchq_worker.fetch.transport.headers import Headers
from fetchq_worker.http_date import http_date

from .directives import Directives, directives_of, listed_fields

_NOT_STORED: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields of one connection or one proxy (RFC 9111, section 3.1)."""


class StoredResponse:
    """A complete response with its decoded body."""

    __slots__ = ("body", "directives", "headers", "received_at_s", "requested_at_s", "status")

    def __init__(self, status: int, headers: Headers, body: bytes, requested_at_s: float, received_at_s: float) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.requested_at_s = requested_at_s
        self.received_at_s = received_at_s
        self.directives: Directives = directives_of(headers.getall("Cache-Control"))

    def __repr__(self) -> str:
        return f"<StoredResponse {self.status} received_at_s={self.received_at_s}>"

    def date_s(self, name: str) -> float | None:
        """A field's date in seconds since 1970; None if it has several values, or one that is no HTTP date."""
        values = set(self.headers.getall(name))
        if len(values) != 1:
            return None
        date = http_date(values.pop(), datetime.fromtimestamp(self.received_at_s, UTC))
        return None if date is None else date.timestamp()

    @property
    def has_validator(self) -> bool:
        return "ETag" in self.headers or "Last-Modified" in self.headers

    @property
    def vary(self) -> tuple[str, ...]:
        """The names in Vary, in lower case and sorted (RFC 9111, section 4.1)."""
        names = {name.strip().lower() for value in self.headers.getall("Vary") for name in value.split(",")}
        return tuple(sorted(names - {""}))


def storable_fields(headers: Headers) -> Headers:
    """All fields but those of the connection, and those that `no-cache` or `private` lists."""
    given = directives_of(headers.getall("Cache-Control"))
    named = {name.strip().lower() for value in headers.getall("Connection") for name in value.split(",")}
    dropped = _NOT_STORED | named | listed_fields(given, "no-cache") | listed_fields(given, "private")
    return Headers.of([pair for pair in headers.items() if pair[0].lower() not in dropped])
