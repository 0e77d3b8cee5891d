"""The head of a request: all its headers, in their order, and no others."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict
from tests.support.web.site import Site, Visit
from yarl import URL

from fetchq import FetchRequest, FetchStatus, RetryPolicy
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.http.errors import RequestRefused
from fetchq_worker.fetch.http.request_head import plain_head, plain_tail, request_head
from fetchq_worker.fetch.transport.errors import InvalidTarget

OWN = {"user-agent": "User-Agent: me/1", "accept": "Accept: */*", "accept-encoding": "Accept-Encoding: gzip"}
ONCE = RetryPolicy(max_tries=1)


def _lines(*headers: tuple[str, str], method: str = "GET", body: bytes | None = None) -> list[str]:
    head = request_head(method, "/a?b", "host.example", OWN, headers=headers, body=body).decode("latin-1")
    assert head.endswith("\r\n\r\n")
    return head.split("\r\n")[:-2]


def test_a_plain_request_has_the_clients_default_lines() -> None:
    assert _lines() == ["GET /a?b HTTP/1.1", "Host: host.example", *OWN.values()]


@pytest.mark.parametrize("target", ["/", "/a?b", "http://host.example/a"])
def test_the_short_way_for_plain_requests_makes_the_same_head(target: str) -> None:
    tail = plain_tail("host.example", OWN)
    assert plain_head(target, tail) == request_head("GET", target, "host.example", OWN)


@pytest.mark.parametrize("target", ["", "/a b", "/a\r\nX: y", "/\x7f", "/é", "/\0"])
def test_no_target_of_a_plain_request_breaks_out_of_its_line(target: str) -> None:
    with pytest.raises(InvalidTarget):
        plain_head(target, plain_tail("host.example", OWN))


def test_a_header_replaces_the_clients_line_of_the_same_name() -> None:
    lines = _lines(("X-A", "1"), ("ACCEPT", "text/html"), ("accept", "text/plain"), ("X-A", "2"))
    assert lines[2:] == [
        "User-Agent: me/1",
        "ACCEPT: text/html",
        "Accept-Encoding: gzip",
        "X-A: 1",
        "accept: text/plain",
        "X-A: 2",
    ]


def test_names_that_differ_in_case_only_are_all_sent() -> None:
    assert _lines(("X-A", "1"), ("x-a", "2"))[5:] == ["X-A: 1", "x-a: 2"]


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        ("GET", None, None),
        ("HEAD", None, None),
        ("OPTIONS", None, None),
        ("POST", None, "0"),
        ("DELETE", None, "0"),
        ("POST", b"", "0"),
        ("PUT", b"abc", "3"),
        ("OPTIONS", b"abc", "3"),
    ],
)
def test_content_length_is_sent_if_a_body_is_present_or_expected(
    method: str, body: bytes | None, length: str | None
) -> None:
    stated = [line for line in _lines(method=method, body=body) if line.startswith("Content-Length")]
    assert stated == ([] if length is None else [f"Content-Length: {length}"])


@pytest.mark.parametrize("held", ["a\r\nX: y", "a\nX: y", "a\rb", "a\0b", "a\x01b", "a\x7fb"])
def test_no_header_breaks_out_of_its_line(held: str) -> None:
    for pair in (("X-A", held), (held, "a")):
        with pytest.raises(RequestRefused):
            _lines(pair)


def test_a_value_may_contain_tabs_and_non_ascii_text() -> None:
    assert _lines(("X-A", "a\tb"), ("X-B", "é"))[5:] == ["X-A: a\tb", "X-B: é"]


def test_fields_are_sent_in_latin_1_and_others_are_refused() -> None:
    head = request_head("GET", "/", "host.example", OWN, headers=(("If-None-Match", '"\xe9"'),))
    assert b'If-None-Match: "\xe9"\r\n' in head
    with pytest.raises(RequestRefused, match=r"^the header 'X-A' contains a character above U\+00FF$"):
        _lines(("X-A", "\u20ac"))


@pytest.mark.parametrize("target", ["", "/a b", "/a\r\nX: y", "/\x7f", "/é", "/\0"])
def test_no_target_breaks_out_of_the_request_line(target: str) -> None:
    with pytest.raises(InvalidTarget):
        request_head("GET", target, "host.example", OWN)
    with pytest.raises(InvalidTarget):
        request_head(f"GET{target} ", "/", "host.example", OWN)


async def _wire(send: Any) -> bytes:
    """The bytes of one request as a server receives them."""
    seen: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in data.split(b"\r\n") if line.startswith(b"Content-Length:")), 0)
        seen.set_result(data + await reader.readexactly(length))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        await send(port)
        return (await seen).replace(str(port).encode(), b"PORT")
    finally:
        server.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("/", {}),
        ("/a/b?c=d&e=%20f#fragment", {}),
        ("/?q=%C3%A9", {"headers": (("Accept", "text/html"), ("X-B", "2"), ("X-B", "3"), ("Accept-Language", "de"))}),
        ("/", {"method": "POST"}),
        ("/", {"method": "POST", "body": b"abc", "headers": (("Content-Type", "text/plain"),)}),
        ("/", {"method": "PUT", "body": b"x" * 100_000}),
        ("/", {"method": "HEAD", "headers": (("User-Agent", "another/2"), ("X-C", "c"))}),
        ("/", {"method": "PATCH", "body": b""}),
    ],
)
async def test_a_request_is_sent_as_aiohttp_sends_it(fetcher: Fetcher, url: str, options: dict[str, Any]) -> None:
    async def ours(port: int) -> None:
        await fetch({"fetcher": fetcher}, FetchRequest(url=f"http://127.0.0.1:{port}{url}", **options))

    async def theirs(port: int) -> None:
        lines = {name.title(): value for name, value in fetcher.client.default_headers.items()}
        async with aiohttp.ClientSession(headers=lines, skip_auto_headers=("Content-Type",)) as session:
            await session.request(
                options.get("method", "GET"),
                URL(f"http://127.0.0.1:{port}{url}", encoded=True),
                headers=CIMultiDict(options.get("headers", ())),
                data=options.get("body"),
            )

    assert await _wire(ours) == await _wire(theirs)


@pytest.mark.asyncio
async def test_a_header_with_a_control_character_is_refused_before_anything_is_sent(
    site: Site, fetcher: Fetcher
) -> None:
    result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.url("/"), headers=(("X-A", "a\x01b"),)))

    assert result.status is FetchStatus.INVALID_JOB
    assert result.error == "the header 'X-A' contains a control character"
    assert site.visits == []


@pytest.mark.asyncio
async def test_a_body_larger_than_the_socket_buffers_arrives_complete(site: Site, fetcher: Fetcher) -> None:
    body = bytes(range(256)) * 4096
    url = site.serve("/", _echo_length)

    results = [
        await fetch({"fetcher": fetcher}, FetchRequest(url=url, method="POST", body=body, retry=ONCE)) for _ in range(2)
    ]

    assert [(result.status, result.body) for result in results] == [(FetchStatus.OK, str(len(body)).encode())] * 2
    assert [visit.body for visit in site.visits] == [body] * 2


async def _echo_length(visit: Visit) -> None:
    text = str(len(visit.body)).encode()
    await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
