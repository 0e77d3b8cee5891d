"""Parses URLs, and returns their hosts and origins. All other code uses these functions.

`normalise_url` parses and serialises (WHATWG URL standard, by ada); the other functions read its result by string
operations, since in a serialised http or https URL the scheme and host are in lower case, a default port is left out
and a slash follows the authority.
"""

from __future__ import annotations

import re
from typing import Final

import ada_url

from fetchq.errors import InvalidRequest

MAX_URL_CHARS: Final = 16_384

_QUERY_OR_FRAGMENT: Final = re.compile(r"[?#].+", re.DOTALL)


def normalise_url(url: str) -> str:
    """The serialisation of an absolute http or https URL without user name and password; raises `InvalidRequest`."""
    if not isinstance(url, str):
        raise InvalidRequest("url", f"takes a string, not {type(url).__name__}")
    if len(url) > MAX_URL_CHARS:
        raise InvalidRequest("url", f"longer than {MAX_URL_CHARS} characters")
    try:
        href = ada_url.normalize_url(url)
    except (ValueError, UnicodeError) as problem:
        raise InvalidRequest("url", f"{_shown(url)} is not an absolute URL") from problem
    if not href.startswith(("http://", "https://")):
        raise InvalidRequest("url", f"{_shown(url)} is not an http or https URL")
    # A user name can only precede the first slash, and the serialiser escapes every other @ there.
    if "@" in href and "@" in href.split("/", 3)[2]:
        raise InvalidRequest("url", "the URL has a user name or password; send an Authorization header instead")
    if len(href) > MAX_URL_CHARS:
        raise InvalidRequest("url", f"longer than {MAX_URL_CHARS} characters once escaped")
    return href


def origin_of(url: str) -> str:
    """Scheme, host and port of a serialised URL (RFC 6454, section 4)."""
    return url[: url.find("/", url.find("://") + 3)]


def host_of(url: str) -> str:
    """The host of a serialised URL: `https://[::1]:8080/` -> `[::1]`, `http://a.example./` -> `a.example`.

    The dot of the DNS root is left out: both spellings name one host, with one set of limits.
    """
    start = url.find("://") + 3
    authority = url[start : url.find("/", start)]
    if authority.endswith("]"):
        return authority
    host, colon, _ = authority.rpartition(":")
    host = host if colon else authority
    return host.removesuffix(".") or host


def find_host(url: str) -> str | None:
    """The same for a URL of any scheme that is not serialised; None: it is not a URL, or has no host."""
    try:
        host = ada_url.URL(url).hostname
    except ValueError:
        return None
    return host.removesuffix(".") or host or None


def is_address(host: str) -> bool:
    """Whether the host of a serialised URL is an IP address, with or without brackets, and not a name.

    The serialiser writes every spelling of an IPv4 address as four decimals, and no name's last label is a number
    (WHATWG URL standard, section 3.5).
    """
    return ":" in host or (host[-1:].isdigit() and host.rpartition(".")[2].isdigit())


def _shown(url: str) -> str:
    """The URL for an error message: shortened, escaped for a terminal, without password, query and fragment.

    It may be what a redirect of a stranger names: those to an app's own scheme have a one-time code in their query.
    """
    if "@" in url:  # first, since the password may contain a question mark
        url = f"***@{url.rpartition('@')[2]}"
    url = _QUERY_OR_FRAGMENT.sub("?...", url)
    return repr(url if len(url) <= 80 else f"{url[:77]}...")
