"""The cookies of one attempt (RFC 6265): what a redirect sets, for the hops that follow it and no other fetch."""

from __future__ import annotations

from typing import Final

import aiohttp
from aiohttp._cookie_helpers import parse_set_cookie_headers
from yarl import URL

from fetchq_worker.fetch.transport.headers import Headers

MAX_COOKIES: Final = 50
"""Maximum number of cookies of one attempt: RFC 6265, section 6.1, names it as the minimum for one domain."""
MAX_COOKIE_CHARS: Final = 4096


class Cookies:
    """aiohttp's cookie jar, which also refuses a cookie for a whole top-level domain, as browsers do."""

    __slots__ = ("_jar",)

    def __init__(self) -> None:
        self._jar = aiohttp.CookieJar(unsafe=True)  # unsafe: also accepts cookies of IP addresses

    def update(self, url: str, headers: Headers) -> None:
        """Stores the cookies that the response to a serialised URL sets."""
        fields = headers.getall("Set-Cookie")
        if not fields:
            return
        origin = URL(url, encoded=True).with_fragment(None)
        for name, morsel in parse_set_cookie_headers(fields):
            domain = morsel["domain"].strip(".")
            too_wide = domain != "" and "." not in domain and domain != (origin.host or "")
            if too_wide or len(morsel.OutputString()) > MAX_COOKIE_CHARS or len(self._jar) >= MAX_COOKIES:
                continue
            self._jar.update_cookies({name: morsel}, origin)

    def header(self, url: str) -> str | None:
        """The value of the Cookie header for a hop; None if no cookie matches."""
        chosen = self._jar.filter_cookies(URL(url, encoded=True))
        return "; ".join(f"{morsel.key}={morsel.coded_value}" for morsel in chosen.values()) or None
