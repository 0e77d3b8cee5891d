"""Every outcome of a fetch, produced by a real server."""

from __future__ import annotations

import asyncio
import socket
from hashlib import sha256

import pytest
from tests.support.web.site import Site, Visit, http_response

from fetchq import FetchRequest, FetchStatus, RetryPolicy
from fetchq_worker.fetch import Fetcher, fetch

pytestmark = pytest.mark.asyncio

ONCE = RetryPolicy(max_tries=1)


async def test_a_good_response_is_ok_and_the_result_is_complete(site: Site, fetcher: Fetcher) -> None:
    page = "<p>größer</p>".encode("latin-1")
    url = site.serve(
        "/page", http_response(page, headers={"Content-Type": 'text/HTML; charset="ISO-8859-1"', "X-Two": "a"})
    )

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url))

    assert result.status is FetchStatus.OK
    assert (result.http_status, result.final_url, result.error) == (200, url, None)
    assert (result.body, result.body_size, result.body_sha256) == (page, len(page), sha256(page).hexdigest())
    assert (result.media_type, result.charset, result.data) == ("text/html", "ISO-8859-1", "<p>größer</p>")
    assert ("X-Two", "a") in result.headers
    assert [(attempt.status, attempt.http_status) for attempt in result.attempts] == [(FetchStatus.OK, 200)]
    assert result.fetched_at is not None
    timing = result.timing
    assert timing.connect_s is not None
    assert timing.first_byte_s is not None
    assert timing.total_s is not None
    assert timing.total_s >= timing.connect_s + timing.first_byte_s
    assert timing.dns_s is timing.tls_s is timing.queued_s is None


async def test_a_name_is_resolved_and_the_look_up_is_timed(site: Site, fetcher: Fetcher) -> None:
    site.serve("/", http_response(b"hello"))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.url("/", host="localhost")))

    assert result.status is FetchStatus.OK
    assert result.timing.dns_s is not None
    assert site.visits[0].header("Host") == f"localhost:{site.port}"


async def test_a_second_fetch_from_the_same_host_reuses_the_connection(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", http_response(b"hello"))

    results = [await fetch({"fetcher": fetcher}, FetchRequest(url=url)) for _ in range(3)]

    assert [result.status for result in results] == [FetchStatus.OK] * 3
    assert site.connections == 1
    assert results[1].timing.connect_s is None


async def test_the_request_is_sent_unchanged(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/in?x=1&y=%20", http_response())
    site.serve("/in", http_response())

    await fetch(
        {"fetcher": fetcher},
        FetchRequest(
            url=url, method="POST", headers=(("X-A", "1"), ("X-A", "2"), ("User-Agent", "mine")), body=b'{"a":1}'
        ),
    )

    visit = site.visits[0]
    assert (visit.method, visit.target, visit.body) == ("POST", "/in?x=1&y=%20", b'{"a":1}')
    assert [value for name, value in visit.headers if name.lower() == "x-a"] == ["1", "2"]
    assert [value for name, value in visit.headers if name.lower() == "user-agent"] == ["mine"]
    assert visit.header("Accept-Encoding") == "gzip, deflate, br, zstd"
    assert visit.header("Accept") == "*/*"
    assert visit.header("Content-Type") is None


async def test_the_workers_user_agent_is_sent_unless_the_request_has_its_own(site: Site, fetcher: Fetcher) -> None:
    await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", http_response())))

    assert site.visits[0].header("User-Agent") == "fetchq-tests/1"


async def test_no_cookie_of_one_fetch_goes_into_another(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", http_response(headers={"Set-Cookie": "session=1"}))

    first = await fetch({"fetcher": fetcher}, FetchRequest(url=url))
    await fetch({"fetcher": fetcher}, FetchRequest(url=url))

    assert ("Set-Cookie", "session=1") in first.headers
    assert site.visits[1].header("Cookie") is None


async def test_no_proxy_of_the_environment_is_used(
    site: Site, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1/")

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", http_response())))

    assert result.status is FetchStatus.OK


@pytest.mark.parametrize("code", [400, 404, 500, 599, 300, 304, 799])
async def test_an_error_response_is_an_http_error_with_its_body(site: Site, fetcher: Fetcher, code: int) -> None:
    body = b"" if code == 304 else b"no such page"
    url = site.serve("/", http_response(body, status=code))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, retry=ONCE))

    assert result.status is FetchStatus.HTTP_ERROR
    assert (result.http_status, result.body) == (code, body)
    assert str(code) in (result.error or "")


async def test_a_304_to_a_conditional_request_is_not_modified(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", http_response(status=304, headers={"ETag": '"1"'}, length=False))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, headers=(("If-None-Match", '"1"'),)))

    assert result.status is FetchStatus.NOT_MODIFIED
    assert result.ok
    assert result.error is None


async def test_a_loopback_address_is_blocked_unless_it_is_allowed(site: Site) -> None:
    urls = [site.serve("/", http_response()), site.url("/", host="localhost"), site.url("/", host="[::ffff:127.0.0.1]")]

    async with Fetcher(user_agent="x") as guarded:
        results = [await fetch({"fetcher": guarded}, FetchRequest(url=url)) for url in urls]

    assert [result.status for result in results] == [FetchStatus.BLOCKED] * 3
    assert {result.error for result in results} == {"the egress policy forbids loopback addresses"}
    assert site.connections == 0


async def test_a_redirect_to_a_forbidden_address_is_blocked(site: Site) -> None:
    url = site.serve("/", http_response(status=302, headers={"Location": "http://169.254.169.254/latest/meta-data/"}))

    async with Fetcher(user_agent="x", allow_net=("127.0.0.1/32",)) as guarded:
        result = await fetch({"fetcher": guarded}, FetchRequest(url=url))

    assert result.status is FetchStatus.BLOCKED
    assert result.error == "the egress policy forbids cloud metadata services"


async def test_a_name_that_does_not_exist_is_a_dns_error(fetcher: Fetcher) -> None:
    result = await fetch({"fetcher": fetcher}, FetchRequest(url="http://no-such-name.invalid/", retry=ONCE))

    assert result.status is FetchStatus.DNS_ERROR
    assert (result.http_status, result.final_url, result.body_sha256) == (None, None, None)


async def test_a_refused_connection_is_a_connect_error(fetcher: Fetcher) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"

        result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, retry=ONCE))

    assert result.status is FetchStatus.CONNECT_ERROR
    assert result.error == "the connection failed: connection refused"


async def _disconnect(visit: Visit) -> None:
    visit.writer.close()


async def test_a_connection_closed_before_the_response_is_a_connect_error(site: Site, fetcher: Fetcher) -> None:
    result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", _disconnect), retry=ONCE))

    assert result.status is FetchStatus.CONNECT_ERROR


async def test_a_body_over_the_limit_is_too_large_with_or_without_content_length(site: Site, fetcher: Fetcher) -> None:
    async def endless(visit: Visit) -> None:
        await visit.send(http_response(length=False))
        while not visit.writer.is_closing():
            await visit.send(b"x" * 10_000)

    said = site.serve("/said", http_response(b"x" * 1001))
    unsaid = site.serve("/unsaid", endless)
    exact = site.serve("/exact", http_response(b"x" * 1000))

    results = [
        await fetch({"fetcher": fetcher}, FetchRequest(url=url, max_bytes=1000)) for url in (said, unsaid, exact)
    ]

    assert [result.status for result in results] == ["TOO_LARGE", "TOO_LARGE", "OK"]
    assert (results[1].http_status, results[1].body) == (200, b"")


async def test_a_too_large_body_that_has_arrived_leaves_the_connection_reusable(site: Site, fetcher: Fetcher) -> None:
    large = site.serve("/large", http_response(b"x" * 250_000))
    small = site.serve("/small", http_response(b"small"))

    for _ in range(3):
        first = await fetch({"fetcher": fetcher}, FetchRequest(url=large, max_bytes=1000))
        second = await fetch({"fetcher": fetcher}, FetchRequest(url=small, read_timeout_s=2.0, retry=ONCE))
        assert (first.status, second.body) == (FetchStatus.TOO_LARGE, b"small")


async def test_endless_headers_are_too_large(site: Site, fetcher: Fetcher) -> None:
    long = site.serve("/long", http_response(headers={"X-Long": "x" * 300_000}))
    many = site.serve("/many", http_response(headers={f"X-{n}": "x" for n in range(40_000)}))

    results = [await fetch({"fetcher": fetcher}, FetchRequest(url=url, retry=ONCE)) for url in (long, many)]

    assert [result.status for result in results] == [FetchStatus.TOO_LARGE] * 2


MALFORMED = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "body cut short": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
    "chunk without size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
    "chunks cut short": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length is no number": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nab",
    "zero byte in header": b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 0\r\n\r\n",
    "status is no number": b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "no gzip": http_response(b"abc", headers={"Content-Encoding": "gzip"}),
    "two redirects at once": b"HTTP/1.1 302 Found\r\nLocation: /a\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("answered", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_response_is_a_bad_response(site: Site, fetcher: Fetcher, answered: bytes) -> None:
    async def send(visit: Visit) -> None:
        await visit.send(answered)
        visit.writer.close()

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", send), retry=ONCE))

    assert result.status is FetchStatus.BAD_RESPONSE, result.error
    assert result.body == b""


async def test_a_switch_of_protocols_is_an_error_with_what_follows_it(site: Site, fetcher: Fetcher) -> None:
    async def send(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello")
        visit.writer.close()

    url = site.serve("/", send)
    results = [await fetch({"fetcher": fetcher}, FetchRequest(url=url)) for _ in range(2)]

    assert [result.status for result in results] == [FetchStatus.HTTP_ERROR] * 2, results
    assert [result.http_status for result in results] == [101, 101]
    assert [result.body for result in results] == [b"hello", b"hello"]
    assert results[0].error == "the server responded 101 Switching Protocols, which was not requested"
    assert site.connections == 2


async def test_a_connection_lost_in_the_body_is_a_bad_response(site: Site, fetcher: Fetcher) -> None:
    async def send(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
        visit.writer.transport.abort()

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", send), retry=ONCE))

    assert result.status is FetchStatus.BAD_RESPONSE
    assert result.http_status == 200


TOLERABLE = {
    "until the connection ends": b"HTTP/1.0 200 OK\r\n\r\nbody",
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + http_response(b"body"),
    "chunks with extensions": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nbody\r\n0\r\n\r\n",
    "chunks with trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-A: b\r\n\r\n",
}


@pytest.mark.parametrize("answered", TOLERABLE.values(), ids=TOLERABLE.keys())
async def test_an_unusual_response_is_accepted(site: Site, fetcher: Fetcher, answered: bytes) -> None:
    async def send(visit: Visit) -> None:
        await visit.send(answered)
        visit.writer.close()

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", send), retry=ONCE))

    assert (result.status, result.body) == (FetchStatus.OK, b"body")


async def test_non_text_header_bytes_give_an_encodable_result(site: Site, fetcher: Fetcher) -> None:
    from fetchq.contract.wire import serialize

    head = b"HTTP/1.1 200 OK\r\nX-A: \xff\xfe\r\nContent-Type: text/\xff; charset=\xff\r\nContent-Length: 0\r\n\r\n"

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", head)))

    assert ("X-A", "ÿþ") in result.headers
    assert result.media_type is result.charset is None
    assert serialize({"r": result})


async def test_a_head_response_has_no_body_whatever_its_headers_say(site: Site, fetcher: Fetcher) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\nContent-Encoding: gzip\r\n\r\n"

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", head), method="HEAD"))

    assert (result.status, result.body) == (FetchStatus.OK, b"")


async def test_a_passed_deadline_is_expired_and_nothing_is_sent(site: Site, fetcher: Fetcher) -> None:
    from datetime import UTC, datetime, timedelta

    url = site.serve("/", http_response())

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, deadline=datetime.now(UTC) - timedelta(seconds=1)))

    assert result.status is FetchStatus.EXPIRED
    assert site.connections == 0


async def test_an_invalid_request_is_a_result() -> None:
    broken: list[tuple[dict[str, object], str]] = [
        ({"url": "ftp://example.org/"}, "INVALID_URL"),
        ({"url": "http://user:pass@example.org/"}, "INVALID_URL"),
        ({"url": 7}, "INVALID_JOB"),
        ({}, "INVALID_JOB"),
        ({"url": "http://example.org/", "timeout_s": -1}, "INVALID_JOB"),
        ({"url": "http://example.org/", "no_such_field": 1}, "INVALID_JOB"),
        ({"url": "http://example.org/", "v": 99}, "INVALID_JOB"),
    ]

    results = [await fetch({}, request) for request, _ in broken]

    assert [result.status for result in results] == [status for _, status in broken]
    assert all(result.error for result in results)


async def test_a_bug_is_an_internal_error_and_is_logged(
    site: Site, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken_guard(url: str) -> None:
        raise ZeroDivisionError(url)

    monkeypatch.setattr(fetcher.guard, "check_url", broken_guard)

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", http_response())))

    assert result.status is FetchStatus.INTERNAL_ERROR
    assert "fetch.crashed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_hundreds_of_concurrent_fetches_get_their_own_responses(site: Site, fetcher: Fetcher) -> None:
    urls = [site.serve_json(f"/{n}", n) for n in range(300)]

    results = await asyncio.gather(*(fetch({"fetcher": fetcher}, FetchRequest(url=url)) for url in urls))

    assert [result.data for result in results] == list(range(300))
