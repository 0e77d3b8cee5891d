"""Cookies within one fetch (RFC 6265bis)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest, FetchStatus
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.access.cookies import MAX_COOKIES, MAX_COOKIES_PER_DOMAIN, Cookies

NOW = 1_800_000_000.0


def _jar(url: str, *fields: str) -> Cookies:
    jar = Cookies()
    jar.update(url, fields, NOW)
    return jar


@pytest.mark.parametrize(
    "pair", ["v=abc==", 'v={"x":1}', "v=a:b", "v=b c", "v=", 'v="q"', "caf\xe9=\xe6\x98\xa5", "a b=c"]
)
def test_a_cookie_is_sent_as_it_came(pair: str) -> None:
    assert _jar("https://a.example/", pair).header("https://a.example/", NOW) == pair


@pytest.mark.parametrize(
    ("origin", "attributes", "url", "sent"),
    [
        ("https://www.a.example/", "", "https://www.a.example/", True),
        ("https://www.a.example/", "", "http://www.a.example:81/", True),
        ("https://www.a.example/", "", "https://a.example/", False),
        ("https://a.example/", "", "https://www.a.example/", False),
        ("https://www.a.example/", "; Domain=a.example", "https://b.a.example/", True),
        ("https://www.a.example/", "; Domain=.A.Example", "https://a.example/", True),
        ("https://www.a.example/", "; Domain=a.example", "https://aa.example/", False),
        ("https://www.a.example/", "; Domain=b.a.example", "https://b.a.example/", False),
        ("https://www.a.example/", "; Domain=b.www.a.example", "https://b.www.a.example/", False),
        ("https://www.a.example/", "; Domain=www.a.example.", "https://www.a.example/", False),
        ("https://www.a.example/", "; Domain=a.example:443", "https://www.a.example/", False),
        ("https://www.a.example/", "; Domain=a.ex\xe4mple", "https://www.a.example/", False),
        ("https://192.0.2.7/", "; Domain=192.0.2.7", "https://192.0.2.7/", True),
        ("https://192.0.2.7/", "; Domain=2.7", "https://192.0.2.7/", False),
        ("https://[2001:db8::1]/", "", "https://[2001:db8::1]/", True),
    ],
)
def test_a_cookie_is_sent_to_its_host_or_below_its_domain(origin: str, attributes: str, url: str, sent: bool) -> None:
    assert (_jar(origin, f"v=1{attributes}").header(url, NOW) is not None) == sent


@pytest.mark.parametrize(
    ("origin", "domain"),
    [
        ("https://www.example.co.uk/", "co.uk"),
        ("https://www.example.co.uk/", ".uk"),
        ("https://me.github.io/", "github.io"),
        ("https://www.example.com/", "com"),
        ("https://www.city.unlisted/", "unlisted"),
        ("https://me.xn--55qx5d.cn/", "xn--55qx5d.cn"),
    ],
)
def test_a_cookie_for_a_public_suffix_is_refused(origin: str, domain: str) -> None:
    assert _jar(origin, f"v=1; Domain={domain}").header(origin, NOW) is None


def test_the_host_that_is_a_public_suffix_keeps_its_cookie_for_itself() -> None:
    jar = _jar("https://github.io/", "v=1; Domain=github.io")
    assert jar.header("https://github.io/", NOW) == "v=1"
    assert jar.header("https://me.github.io/", NOW) is None


@pytest.mark.parametrize(
    ("origin", "attributes", "path", "sent"),
    [
        ("/", "; Path=/docs", "/docs", True),
        ("/", "; Path=/docs", "/docs?x=1", True),
        ("/", "; Path=/docs", "/docs/a", True),
        ("/", "; Path=/docs", "/docsx", False),
        ("/", "; Path=/docs/", "/docs", False),
        ("/", "; Path=/Docs", "/docs", False),
        ("/", "; Path=/docs?", "/docs?", False),
        ("/a/b/c?x=/y/z", "", "/a/b/d", True),
        ("/a/b/c?x=/y/z", "", "/a/b", True),
        ("/a/b/c", "", "/a/x", False),
        ("/a", "", "/b", True),
        ("/a/b", "; Path=x", "/a/c", True),
    ],
)
def test_a_cookie_is_sent_below_its_path(origin: str, attributes: str, path: str, sent: bool) -> None:
    jar = _jar(f"https://a.example{origin}", f"v=1{attributes}")
    assert (jar.header(f"https://a.example{path}", NOW) is not None) == sent


def test_all_cookies_of_a_name_are_sent_the_longest_path_first_then_the_oldest() -> None:
    jar = _jar("https://www.a.example/x/y", "v=1; Path=/", "w=2", "v=3", "v=4; Path=/; Domain=a.example")
    assert jar.header("https://www.a.example/x/z", NOW) == "w=2; v=3; v=1; v=4"


def test_a_new_cookie_replaces_the_old_one_and_keeps_its_place() -> None:
    jar = _jar("https://a.example/", "v=1", "w=2", "v=3")
    assert jar.header("https://a.example/", NOW) == "v=3; w=2"


@pytest.mark.parametrize("ending", ["Expires=Thu, 01 Jan 1970 00:00:00 GMT", "Max-Age=0", "max-age=-5"])
def test_a_cookie_that_has_expired_deletes_the_old_one(ending: str) -> None:
    jar = _jar("https://a.example/", "v=1", "w=2", f"v=; {ending}")
    assert jar.header("https://a.example/", NOW) == "w=2"


def test_a_cookie_is_sent_until_it_expires() -> None:
    jar = _jar("https://a.example/", "v=1; Max-Age=60")
    assert jar.header("https://a.example/", NOW + 59) == "v=1"
    assert jar.header("https://a.example/", NOW + 60) is None


@pytest.mark.parametrize(
    ("origin", "url", "sent"),
    [
        ("https://a.example/", "https://a.example/", True),
        ("https://a.example/", "http://a.example/", False),
        ("http://a.example/", "https://a.example/", False),
        ("http://localhost/", "http://localhost/", True),
        ("http://app.localhost/", "http://app.localhost/", True),
        ("http://127.0.0.1/", "http://127.0.0.1/", True),
        ("http://[::1]/", "http://[::1]/", True),
        ("http://127.example/", "http://127.example/", False),
        ("http://10.0.0.1/", "http://10.0.0.1/", False),
    ],
)
def test_a_secure_cookie_needs_https_or_loopback(origin: str, url: str, sent: bool) -> None:
    assert (_jar(origin, "v=1; Secure").header(url, NOW) is not None) == sent


def test_http_cannot_hide_a_secure_cookie() -> None:
    jar = _jar("https://www.a.example/x/", "v=1; Secure")
    http = ("v=2; Path=/x/y", "v=3; Path=/x/; Domain=a.example", "v=4; Path=/", "w=5; Path=/x")
    jar.update("http://www.a.example/x/", http, NOW)
    assert jar.header("https://www.a.example/x/y", NOW) == "v=1; w=5; v=4"


@pytest.mark.parametrize(
    ("field", "taken"),
    [
        ("__Secure-v=1; Secure", True),
        ("__Secure-v=1", False),
        ("__sECURE-v=1", False),
        ("__Host-v=1; Secure; Path=/", True),
        ("__Host-v=1; Secure", False),
        ("__Host-v=1; Path=/", False),
        ("__Host-v=1; Secure; Path=/x", False),
        ("__host-v=1; Secure; Path=/; Domain=a.example", False),
    ],
)
def test_prefixed_names_need_their_attributes(field: str, taken: bool) -> None:
    assert (_jar("https://a.example/x", field).header("https://a.example/x", NOW) is not None) == taken


def _names(jar: Cookies, url: str) -> list[str]:
    return [pair.partition("=")[0] for pair in (jar.header(url, NOW) or "").split("; ")]


def test_the_oldest_cookies_of_a_domain_are_evicted() -> None:
    jar = _jar("https://a.example/", *(f"c{n}=1" for n in range(MAX_COOKIES_PER_DOMAIN + 2)))
    assert _names(jar, "https://a.example/") == [f"c{n}" for n in range(2, MAX_COOKIES_PER_DOMAIN + 2)]


def test_cookies_that_are_not_secure_or_not_in_use_are_evicted_first() -> None:
    jar = _jar("https://a.example/", "s=1; Secure", "unused=1; Path=/x", "used=1", "set=1")
    jar.header("https://a.example/", NOW)
    jar.update("https://a.example/", [f"c{n}=1" for n in range(MAX_COOKIES_PER_DOMAIN - 3)], NOW)
    assert "unused" not in _names(jar, "https://a.example/x")
    jar.update("https://a.example/", ["set=2", *(f"d{n}=1" for n in range(MAX_COOKIES_PER_DOMAIN - 3))], NOW)
    assert _names(jar, "https://a.example/")[:2] == ["s", "set"]


def test_the_number_of_cookies_of_a_fetch_is_bounded() -> None:
    jar = Cookies()
    for n in range(20):
        jar.update(f"https://a{n}.example/", [f"c{m}=1" for m in range(10_000)], NOW)
    kept = [jar.header(f"https://a{n}.example/", NOW) or "" for n in range(20)]
    assert sum(sent.count("=") for sent in kept) == MAX_COOKIES
    assert kept[-1].count("=") == MAX_COOKIES_PER_DOMAIN


def _sets(*cookies: str, to: str = "/there") -> bytes:
    lines = "".join(f"Set-Cookie: {cookie}\r\n" for cookie in cookies)
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n{lines}\r\n".encode("latin-1")


async def _sent(site: Site, fetcher: Fetcher, url: str, **options: Any) -> list[str | None]:
    result = await fetch({"fetcher": fetcher}, FetchRequest.of(url, **options))
    assert result.status is FetchStatus.OK
    return [visit.header("Cookie") for visit in site.visits]


@pytest.mark.asyncio
async def test_a_cookie_set_by_a_redirect_is_sent_with_the_next_hop_of_this_fetch_only(
    site: Site, fetcher: Fetcher
) -> None:
    url = site.serve("/", _sets("a=1; Path=/; HttpOnly", 'b="x y"', "c=d=="))
    site.serve("/there", http_response())

    assert await _sent(site, fetcher, url, cookies=True) == [None, 'a=1; b="x y"; c=d==']
    assert (await _sent(site, fetcher, url, cookies=True))[2:] == [None, 'a=1; b="x y"; c=d==']


@pytest.mark.asyncio
async def test_without_the_option_no_cookie_is_stored(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", _sets("a=1"))
    site.serve("/there", http_response())
    assert await _sent(site, fetcher, url) == [None, None]


@pytest.mark.asyncio
async def test_a_cookie_stays_with_its_host(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", _sets("a=1", to=site.url("/there", host="localhost")))
    site.serve("/there", _sets("b=2", to=site.url("/back")))
    site.serve("/back", http_response())
    assert await _sent(site, fetcher, url, cookies=True) == [None, None, "a=1"]


@pytest.mark.asyncio
async def test_the_requests_own_cookie_is_sent_first(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", _sets("a=1"))
    site.serve("/there", http_response())
    assert await _sent(site, fetcher, url, cookies=True, headers={"cookie": "mine=0"}) == ["mine=0", "mine=0; a=1"]
