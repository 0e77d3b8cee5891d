"""The cookies of one attempt (RFC 6265): what a redirect sets, for the hops that follow, and nobody else."""

from __future__ import annotations

from typing import Final

import aiohttp
from aiohttp._cookie_helpers import parse_set_cookie_headers
from multidict import CIMultiDictProxy
from yarl import URL

MAX_COOKIES: Final = 50
"""RFC 6265, section 6.1, has it as the least for one domain; here it is the most of one attempt."""
MAX_COOKIE_CHARS: Final = 4096


class Cookies:
    """aiohttp's jar, with what browsers refuse beyond it: a cookie for a whole top-level domain."""

    __slots__ = ("_jar",)

    def __init__(self) -> None:
        self._jar = aiohttp.CookieJar(unsafe=True)  # unsafe: servers without a name have cookies too

    def take(self, url: str, headers: CIMultiDictProxy[str]) -> None:
        """Keeps what the answer to a serialised URL sets."""
        fields = headers.getall("Set-Cookie", ())
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
        """The value of the Cookie header for a hop; None: no cookie is for it."""
        chosen = self._jar.filter_cookies(URL(url, encoded=True))
        return "; ".join(f"{morsel.key}={morsel.coded_value}" for morsel in chosen.values()) or None
