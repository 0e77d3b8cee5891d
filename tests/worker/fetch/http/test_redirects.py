"""Redirects by RFC 9110, section 15.4, and the fetch standard."""

from __future__ import annotations

import pytest
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest, FetchStatus, InvalidRequest, Redirect
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.http.redirect import Hop, next_hop


def _to(location: str, status: int = 302) -> bytes:
    return http_response(b"moved", status=status, headers={"Location": location})


@pytest.mark.asyncio
async def test_redirects_are_followed_and_listed(site: Site, fetcher: Fetcher) -> None:
    first = site.serve("/1", _to("/2", 301))
    second = site.serve("/2", _to("3?x", 307))
    third = site.serve("/3", http_response(b"there"))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=first))

    assert (result.status, result.body, result.final_url) == (FetchStatus.OK, b"there", f"{third}?x")
    assert result.redirects == (Redirect(url=first, http_status=301), Redirect(url=second, http_status=307))
    assert site.connections == 1


@pytest.mark.asyncio
async def test_more_redirects_than_allowed_are_too_many(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/loop", _to("/loop"))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, max_redirects=3))

    assert result.status is FetchStatus.TOO_MANY_REDIRECTS
    assert len(result.redirects) == 3
    assert len(site.visits) == 4


@pytest.mark.asyncio
@pytest.mark.parametrize("max_redirects", [0, 10])
async def test_a_redirect_that_is_not_followed_is_a_final_response(
    site: Site, fetcher: Fetcher, max_redirects: int
) -> None:
    location = {"Location": "/elsewhere"} if max_redirects == 0 else {}
    url = site.serve("/", http_response(b"moved", status=301, headers=location))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, max_redirects=max_redirects))

    assert (result.status, result.http_status, result.body) == (FetchStatus.HTTP_ERROR, 301, b"moved")
    assert result.redirects == ()


@pytest.mark.asyncio
@pytest.mark.parametrize("location", ["ftp://example.org/", "javascript:alert(1)", "http://[::1", "http://a:b@host/"])
async def test_a_redirect_to_another_scheme_is_an_invalid_url(site: Site, fetcher: Fetcher, location: str) -> None:
    result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", _to(location))))

    assert (result.status, result.http_status) == (FetchStatus.INVALID_URL, 302)


@pytest.mark.asyncio
async def test_a_location_with_any_bytes_is_resolved_as_browsers_do(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", b"HTTP/1.1 302 Found\r\nLocation: \\a b\\../\xc3\xbc?\xff\r\nContent-Length: 0\r\n\r\n")

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url))

    assert result.http_status == 404
    assert site.visits[1].target == "/%C3%BC?%FF"


@pytest.mark.asyncio
@pytest.mark.parametrize("locations", [[""], ["  \t "], ["", " "]])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_blank_location_is_no_redirect(site: Site, fetcher: Fetcher, locations: list[str], status: int) -> None:
    url = site.serve("/", _with_locations(locations, status))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, method="POST", body=b"once"))

    assert (result.status, result.http_status, result.body) == (FetchStatus.HTTP_ERROR, status, b"moved")
    assert len(site.visits) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("locations", [["/there", "/there"], ["/there", " /there\t"], ["", "/there"], ["/there", ""]])
async def test_equal_locations_are_one(site: Site, fetcher: Fetcher, locations: list[str]) -> None:
    url = site.serve("/", _with_locations(locations))
    site.serve("/there", http_response(b"there"))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url))

    assert (result.status, result.body) == (FetchStatus.OK, b"there")


def _with_locations(locations: list[str], status: int = 302) -> bytes:
    fields = "".join(f"Location: {location}\r\n" for location in locations)
    return f"HTTP/1.1 {status} Found\r\n{fields}Content-Length: 5\r\n\r\nmoved".encode()


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/t/caf\xe9", "http://example.org/t/caf%E9"),
        ("/t/caf\xc3\xa9", "http://example.org/t/caf%C3%A9"),
        ("/\x80?\xff#\xa0", "http://example.org/%80?%FF#%A0"),
        ("/t/%E9/a b", "http://example.org/t/%E9/a%20b"),
        ("?x", "http://example.org/a/b?x"),
        ("c", "http://example.org/a/c"),
        ("#x", "http://example.org/a/b?q#x"),
        ("//other.example", "http://other.example/#part"),
        ("\\\\other.example\\a\\..\\b", "http://other.example/b#part"),
        ("/a\tb", "http://example.org/ab#part"),
        ("https:/c", "https://c/#part"),
        ("http:c", "http://example.org/a/c#part"),
        ("HTTP://OTHER.example:80/%7e", "http://other.example/%7e#part"),
        ("http://b\xc3\xbccher.example/", "http://xn--bcher-kva.example/#part"),
        ("http://other.example:/x", "http://other.example/x#part"),
    ],
)
def test_a_location_is_resolved_as_browsers_do(location: str, url: str) -> None:
    found = next_hop(Hop("http://example.org/a/b?q#part", "GET"), 302, location).url

    assert found == (url if "#" in url else f"{url}#part")


@pytest.mark.asyncio
async def test_bytes_of_a_location_are_asked_for_as_they_are(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", b"HTTP/1.1 302 Found\r\nLocation: /t/caf\xe9\r\nContent-Length: 0\r\n\r\n")

    await fetch({"fetcher": fetcher}, FetchRequest(url=url))

    assert site.visits[1].target == "/t/caf%E9"


@pytest.mark.asyncio
@pytest.mark.parametrize(("cookies", "hinted"), [(False, True), (True, False)])
async def test_a_loop_that_sets_cookies_says_that_cookies_would_help(
    site: Site, fetcher: Fetcher, cookies: bool, hinted: bool
) -> None:
    headers = {"Location": "/loop", "Set-Cookie": "seen=1"}
    url = site.serve("/loop", http_response(status=302, headers=headers))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, cookies=cookies))

    assert result.status is FetchStatus.TOO_MANY_REDIRECTS
    assert ("cookies=True (--cookies) would send back" in (result.error or "")) is hinted


@pytest.mark.asyncio
async def test_a_large_redirect_page_is_not_read(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", http_response(b"x" * 2_000_000, status=302, headers={"Location": "/there"}))
    site.serve("/there", http_response(b"there"))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, max_bytes=1000, read_timeout_s=2.0))

    assert result.body == b"there"
    assert site.connections == 2


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (301, "PUT", "PUT"),
        (307, "POST", "POST"),
        (308, "POST", "POST"),
        (303, "HEAD", "HEAD"),
        (302, "HEAD", "HEAD"),
    ],
)
async def test_the_method_after_a_redirect_follows_the_rules(
    site: Site, fetcher: Fetcher, status: int, method: str, then: str
) -> None:
    url = site.serve("/", _to("/there", status) if method != "HEAD" else _head(status))
    site.serve("/there", http_response() if method != "HEAD" else b"HTTP/1.1 200 OK\r\n\r\n")
    body = None if method == "HEAD" else b"payload"
    headers = (("Content-Type", "text/plain"), ("X-Kept", "1"))

    await fetch({"fetcher": fetcher}, FetchRequest(url=url, method=method, body=body, headers=headers))

    second = site.visits[1]
    assert second.method == then
    assert second.header("X-Kept") == "1"
    if then == method and body:
        assert (second.body, second.header("Content-Type")) == (b"payload", "text/plain")
    elif then == "GET":
        assert (second.body, second.header("Content-Type")) == (b"", None)


def _head(status: int) -> bytes:
    return f"HTTP/1.1 {status} Moved\r\nLocation: /there\r\n\r\n".encode()


@pytest.mark.asyncio
async def test_credentials_stay_with_their_origin(site: Site, fetcher: Fetcher) -> None:
    secrets = (("Authorization", "Bearer secret"), ("Cookie", "a=b"), ("X-Other", "1"))
    same = site.serve("/same", _to("/there"))
    across = site.serve("/across", _to(site.url("/back", host="localhost")))
    site.serve("/back", _to(site.url("/there")))
    site.serve("/there", http_response())

    await fetch({"fetcher": fetcher}, FetchRequest(url=same, headers=secrets))
    await fetch({"fetcher": fetcher}, FetchRequest(url=across, headers=secrets))

    sent = [(visit.target, visit.header("Authorization"), visit.header("Cookie")) for visit in site.visits]
    assert sent == [
        ("/same", "Bearer secret", "a=b"),
        ("/there", "Bearer secret", "a=b"),
        ("/across", "Bearer secret", "a=b"),
        ("/back", None, None),
        ("/there", None, None),
    ]
    assert {visit.header("X-Other") for visit in site.visits} == {"1"}


@pytest.mark.asyncio
async def test_a_fragment_is_inherited_and_not_sent(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/1", _to("/2"))
    site.serve("/2", _to("/3#own"))
    site.serve("/3", http_response())

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=f"{url}#part"))

    assert result.redirects[1].url == site.url("/2#part")
    assert result.final_url == site.url("/3#own")
    assert [visit.target for visit in site.visits] == ["/1", "/2", "/3"]


def test_a_downgrade_to_http_drops_the_credentials() -> None:
    hop = Hop("https://example.org/", "GET", (("authorization", "x"), ("Accept", "y")))

    assert next_hop(hop, 301, "http://example.org/").headers == (("Accept", "y"),)


def test_an_invalid_location_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        next_hop(Hop("http://example.org/", "GET"), 302, "http://exa mple.org:99999/")
