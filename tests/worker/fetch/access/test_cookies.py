"""Cookies within one fetch (RFC 6265)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest, FetchStatus
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.access.cookies import MAX_COOKIES

pytestmark = pytest.mark.asyncio


def _sets(*cookies: str, to: str = "/there") -> bytes:
    lines = "".join(f"Set-Cookie: {cookie}\r\n" for cookie in cookies)
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n{lines}\r\n".encode()


async def _sent(site: Site, fetcher: Fetcher, url: str, **options: Any) -> list[str | None]:
    result = await fetch({"fetcher": fetcher}, FetchRequest.of(url, **options))
    assert result.status is FetchStatus.OK
    return [visit.header("Cookie") for visit in site.visits]


async def test_a_cookie_set_by_a_redirect_is_sent_with_the_next_hop(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", _sets("a=1; Path=/; HttpOnly", 'b="x y"'))
    site.serve("/there", http_response())

    assert await _sent(site, fetcher, url, cookies=True) == [None, 'a=1; b="x y"']
    assert (await _sent(site, fetcher, url, cookies=True))[2:] == [
        None,
        'a=1; b="x y"',
    ]  # no cookie of the first fetch is sent


async def test_without_the_option_no_cookie_is_stored(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", _sets("a=1"))
    site.serve("/there", http_response())
    assert await _sent(site, fetcher, url) == [None, None]


async def test_path_secure_expiry_and_domain_are_respected(site: Site, fetcher: Fetcher) -> None:
    url = site.serve(
        "/",
        _sets(
            "here=1; Path=/there",
            "else=1; Path=/elsewhere",
            "tls=1; Secure",
            "old=1; Max-Age=0",
            "far=1; Domain=a.example",
        ),
    )
    site.serve("/there", http_response())
    assert await _sent(site, fetcher, url, cookies=True) == [None, "here=1"]


async def test_a_cookie_stays_with_its_host(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", _sets("a=1", to=site.url("/there", host="localhost")))
    site.serve("/there", _sets("b=2", to=site.url("/back")))
    site.serve("/back", http_response())
    assert await _sent(site, fetcher, url, cookies=True) == [None, None, "a=1"]


async def test_a_cookie_for_a_whole_top_level_domain_is_refused(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", _sets("wide=1; Domain=localhost", "own=1", to="/there"))
    site.serve("/there", http_response())
    below = site.url("/", host="a.localhost")
    assert url
    assert await _sent(site, fetcher, below, cookies=True) == [None, "own=1"]


async def test_the_requests_own_cookie_is_sent_first(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", _sets("a=1"))
    site.serve("/there", http_response())
    assert await _sent(site, fetcher, url, cookies=True, headers={"cookie": "mine=0"}) == ["mine=0", "mine=0; a=1"]


async def test_the_number_of_cookies_is_bounded(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", _sets(*(f"c{n}=1" for n in range(200)), "big=" + "x" * 5000))
    site.serve("/there", http_response())
    [_, sent] = await _sent(site, fetcher, url, cookies=True)
    assert sent is not None
    assert sent.count("=") == MAX_COOKIES
