"""Redirects: the next hop and its headers (RFC 9110, section 15.4; fetch standard, "HTTP-redirect fetch")."""

from __future__ import annotations

from typing import Final

import ada_url
import msgspec

from fetchq import InvalidRequest
from fetchq.contract.urls import normalise_url, origin_of
from fetchq_worker.fetch.transport.errors import ResponseMalformed
from fetchq_worker.fetch.transport.headers import Headers

REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
"""The fetch standard's "redirect status"; 300, 304, 305 and 306 are not followed."""

_C0_OR_SPACE: Final = "".join(map(chr, range(0x21)))
"""What the URL standard strips from both ends of a URL."""
_CREDENTIAL_HEADERS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
_BODY_HEADERS: Final = frozenset(
    {
        "content-encoding",
        "content-language",
        "content-location",
        "content-type",
        "content-digest",
        "repr-digest",
        "digest",
        "last-modified",
    }
)
"""RFC 9110, section 15.4, item 3.2; the digest fields are RFC 9530's and RFC 3230's."""


class Hop(msgspec.Struct, frozen=True, gc=False):
    """One request of an attempt: the first one, or one that a redirect asks for."""

    url: str
    """Serialised, fragment included."""
    method: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None


def location_of(headers: Headers) -> str | None:
    """The Location to follow; None if there is none. A blank one is none, and equal ones are one, as browsers see it.

    Raises `ResponseMalformed` for several that differ.
    """
    found: str | None = None
    for location in headers.getall("Location"):
        if not location.strip(_C0_OR_SPACE) or location == found:
            continue
        if found is not None:
            raise ResponseMalformed("the response has several different Location fields")
        found = location
    return found


def next_hop(hop: Hop, http_status: int, location: str) -> Hop:
    """The request that a redirect asks for; raises `InvalidRequest` if it leads to anything but http or https."""
    url = resolve(hop.url, location)
    method, body, headers = hop.method, hop.body, hop.headers
    if (http_status == 303 and method not in ("GET", "HEAD")) or (http_status in (301, 302) and method == "POST"):
        method, body = "GET", None
        headers = _without(headers, _BODY_HEADERS)
    if origin_of(url) != origin_of(hop.url):
        headers = _without(headers, _CREDENTIAL_HEADERS)
    return Hop(url, method, headers, body)


def resolve(base: str, location: str) -> str:
    """The URL that a Location names, serialised; raises `InvalidRequest` if it is not an http or https URL."""
    try:
        joined = ada_url.join_url(base, _escaped(location))
    except (ValueError, UnicodeError) as problem:
        raise InvalidRequest("Location", "does not resolve to a URL") from problem
    url = normalise_url(joined)
    if "#" not in url:  # RFC 9110, section 10.2.2
        _, mark, fragment = base.partition("#")
        url = f"{url}{mark}{fragment}"
    return url


def _escaped(location: str) -> str:
    """A Location with each byte from 0x80 on percent-encoded as it is, whatever the page's encoding."""
    if location.isascii():
        return location
    return "".join(char if char.isascii() else f"%{ord(char):02X}" for char in location)


def _without(headers: tuple[tuple[str, str], ...], names: frozenset[str]) -> tuple[tuple[str, str], ...]:
    return tuple(pair for pair in headers if pair[0].lower() not in names)
