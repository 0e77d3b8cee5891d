"""Request smuggling by URLs and headers, checked in the bytes that a server receives."""

from __future__ import annotations

import pytest
from harness.egress.arena import REDIRECTOR, Arena
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from fetchq import FetchRequest, FetchStatus, InvalidRequest
from fetchq.contract.urls import host_of, is_address, normalise_url
from fetchq_worker.fetch import fetch

INJECTIONS = [
    "\r\nHost: 127.0.0.1",
    "\nX-Injected: 1",
    "\r\n\r\nGET /admin HTTP/1.1\r\nHost: inside",
    "%0d%0aX-Injected:%201",
    " HTTP/1.1\r\nX-Injected: 1\r\n\r\n",
    "\u010d\u010aX-Injected: 1",  # their low bytes are CR and LF
    "\u560d\u560aX-Injected: 1",
    "\x0b\x0c\x85\u2028X-Injected: 1",
]


@pytest.mark.asyncio
@pytest.mark.parametrize("injection", INJECTIONS, ids=ascii)
@pytest.mark.parametrize("where", ["/{}", "/?q={}", "/;{}", "/#{}", "?{}"])
async def test_a_path_cannot_add_a_request_or_a_header(arena: Arena, where: str, injection: str) -> None:
    url = f"http://{REDIRECTOR}:{arena.redirector.port}{where.format(injection)}"

    result = await arena.fetch(url, fetcher=arena.redirected)

    assert result.status is FetchStatus.OK
    (head,) = arena.redirector.heads
    lines = head.decode("ascii").split("\r\n")
    assert len(lines[0].split(" ")) == 3
    assert not head.count(b"\n") - head.count(b"\r\n")
    names = [line.partition(":")[0].lower() for line in lines[1:-2]]
    assert sorted(names) == ["accept", "accept-encoding", "host", "user-agent"]
    assert f"Host: {REDIRECTOR}:{arena.redirector.port}" in lines


@pytest.mark.asyncio
async def test_a_location_cannot_add_a_header(arena: Arena) -> None:
    target = f"http://{REDIRECTOR}:{arena.redirector.port}/x\x0b\x85\u560d\u560aX-Injected: 1"

    result = await arena.fetch_redirected(target)

    assert result.status is FetchStatus.TOO_MANY_REDIRECTS
    assert b"X-Injected: 1" not in arena.redirector.heads[1]
    assert b"X-Injected:%201" in arena.redirector.heads[1]


@pytest.mark.parametrize("value", ["a\r\nHost: b", "a\nb", "a\rb", "a\0b", "\u010d\u010a"])
@pytest.mark.parametrize("name", ["X-A", "User-Agent", "Cookie"])
def test_a_header_with_a_line_break_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match="headers"):
        FetchRequest(url="http://public.example/", headers=((name, value),))


@pytest.mark.parametrize(
    "name",
    ["Host", "HOST", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Proxy-Authorization", "TE"],
)
def test_a_header_that_frames_or_routes_the_message_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="set by the client"):
        FetchRequest(url="http://public.example/", headers=((name, "127.0.0.1"),))


@pytest.mark.parametrize("name", ["X-A: 1\r\nHost", "X A", "X-A:", "", "Hos\tt", "Höst"])
def test_an_invalid_header_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="header name"):
        FetchRequest(url="http://public.example/", headers=((name, "1"),))


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "GET /admin HTTP/1.1\r\nX", "GE T", "", "G\0T"])
def test_an_invalid_method_is_refused(method: str) -> None:
    with pytest.raises(InvalidRequest, match="method"):
        FetchRequest(url="http://public.example/", method=method)


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("userinfo", ["user@", "user:password@", "127.0.0.1@", ":@", "%40@", "a@b@"])
async def test_a_user_name_in_a_location_is_refused_and_sent_nowhere(arena: Arena, scheme: str, userinfo: str) -> None:
    arena.redirector.location = f"{scheme}://{userinfo}{REDIRECTOR}:{arena.redirector.port}/"

    result = await arena.fetch(arena.redirector.url, fetcher=arena.redirected)

    if userinfo == ":@":  # empty ones are no credentials (URL standard, "includes credentials")
        assert scheme == "https" or result.status is FetchStatus.TOO_MANY_REDIRECTS
        assert not any(b"authorization" in head.lower() for head in arena.redirector.heads)
    else:
        assert result.status is FetchStatus.INVALID_URL
        assert arena.redirector.connections == 1


@pytest.mark.asyncio
async def test_no_proxy_or_password_from_the_environment_is_used(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy"):
        for spelling in (name, name.upper()):
            monkeypatch.setenv(spelling, arena.inside.url)
    monkeypatch.delenv("no_proxy", raising=False)
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text(f"machine {REDIRECTOR} login someone password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    request = FetchRequest(url=arena.redirector.url)
    result = await fetch({"fetcher": arena.redirected}, request)

    assert result.status is FetchStatus.OK
    assert b"authorization" not in arena.redirector.heads[0].lower()
    assert arena.reached == []
    assert arena.inside.connections == 0


_URL_TEXT = st.text(st.sampled_from("ab1.0127:/\\@#?[]%25x-_~!$&'()*+,;=`{}|^<>\"\u3002\uff10\u2460\xdf\u2028 \t"))


@given(_URL_TEXT, _URL_TEXT)
def test_the_client_and_the_guard_parse_a_url_alike(host: str, rest: str) -> None:
    try:
        href = normalise_url(f"http://{host}/{rest}")
    except InvalidRequest:
        return
    url = URL(href, encoded=True)
    host = host_of(href)
    authority = (url.raw_host or "").removesuffix(".") or url.raw_host
    assert authority == host.strip("[]")
    assert url.scheme == "http"
    assert url.raw_user is url.raw_password is None
    after_host = "/" if url.explicit_port is None else f":{url.explicit_port}/"
    assert href.startswith((f"http://{host}{after_host}", f"http://{host}.{after_host}"))
    assert is_address(host) == (host.startswith("[") or all(part.isdigit() for part in host.split(".")))
