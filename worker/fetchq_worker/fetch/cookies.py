"""The cookies of one attempt (RFC 6265): what a redirect sets, for the hops that follow, and nobody else."""

from __future__ import annotations

from typing import Final

import aiohttp
from yarl import URL

MAX_COOKIES: Final = 50
"""RFC 6265, section 6.1, has it as the least for one domain; here it is the most of one attempt."""
MAX_COOKIE_CHARS: Final = 4096


class Cookies:
    """aiohttp's jar, with what browsers refuse beyond it: a cookie for a whole top-level domain."""

    __slots__ = ("_jar",)

    def __init__(self) -> None:
        self._jar = aiohttp.CookieJar(unsafe=True)  # unsafe: servers without a name have cookies too

    def take(self, response: aiohttp.ClientResponse) -> None:
        """Keeps what the answer sets."""
        for name, morsel in response.cookies.items():
            domain = morsel["domain"].strip(".")
            too_wide = domain != "" and "." not in domain and domain != (response.url.host or "")
            if too_wide or len(morsel.OutputString()) > MAX_COOKIE_CHARS or len(self._jar) >= MAX_COOKIES:
                continue
            self._jar.update_cookies({name: morsel}, response.url)

    def header(self, url: str) -> str | None:
        """The value of the Cookie header for a hop; None: no cookie is for it."""
        chosen = self._jar.filter_cookies(URL(url, encoded=True))
        return "; ".join(f"{morsel.key}={morsel.coded_value}" for morsel in chosen.values()) or None
