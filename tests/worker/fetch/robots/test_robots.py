"""robots.txt by RFC 9309: requests, rules, and the cost of hostile files."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest
import pytest_asyncio
from tests.support.web.site import Site, Visit, http_response

from fetchq import FetchRequest, FetchResult, FetchStatus, RetryPolicy
from fetchq.store.keys import Keys
from fetchq_worker.engine.run.snooze import Snooze
from fetchq_worker.fetch import Fetcher, fetch, fetch_data
from fetchq_worker.fetch.cache.shared_cache import SharedCache
from fetchq_worker.fetch.robots.rules import MAX_ROBOTS_BYTES
from fetchq_worker.process.embedded import EmbeddedRedis

ONCE = RetryPolicy(max_tries=1)
AT_ONCE = RetryPolicy(max_tries=1, max_retry_after_s=0)
"""Does not wait for a robots.txt that cannot be had."""
LOOPBACK = ("127.0.0.0/8", "::1/128")


async def _fetch(fetcher: Fetcher, url: str, **options: Any) -> FetchResult:
    return await fetch({"fetcher": fetcher}, FetchRequest.of(url, **{"robots": True, "retry": ONCE, **options}))


def _robots(site: Site, text: str, **options: Any) -> None:
    site.serve("/robots.txt", http_response(text.encode(), **options))


def _targets(site: Site) -> list[str]:
    return [visit.target for visit in site.visits]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A robots.txt that cannot be had is requested again after 20 ms."""
    monkeypatch.setattr("fetchq_worker.fetch.robots.record.FIRST_WAIT_S", 0.02)
    monkeypatch.setattr("fetchq_worker.fetch.robots.record.MAX_WAIT_S", 0.02)


@pytest_asyncio.fixture
async def shared(embedded: EmbeddedRedis) -> AsyncIterator[list[Fetcher]]:
    """Two workers' clients on one Redis."""
    redis = embedded.client()
    shared_cache = SharedCache(redis, Keys())
    fetchers = [Fetcher(user_agent="fetchq-tests/1", allow_net=LOOPBACK, shared_cache=shared_cache) for _ in range(2)]
    yield fetchers
    for fetcher in fetchers:
        await fetcher.aclose()
    await redis.aclose()


@pytest.mark.asyncio
async def test_a_url_that_robots_txt_disallows_is_denied_and_not_requested(site: Site, fetcher: Fetcher) -> None:
    _robots(site, "User-agent: *\nDisallow: /private\n")
    site.serve("/public", http_response(b"hello"))
    site.serve("/private", http_response(b"secret"))

    assert (await _fetch(fetcher, site.url("/public"))).body == b"hello"
    denied = await _fetch(fetcher, site.url("/private/a"))

    assert (denied.status, denied.http_status) == (FetchStatus.ROBOTS_DENIED, None)
    assert denied.error == "the origin's robots.txt forbids it"
    assert _targets(site) == ["/robots.txt", "/public"]
    assert site.visits[0].header("User-Agent") == "fetchq-tests/1"


@pytest.mark.asyncio
@pytest.mark.parametrize("coding", ["utf-8", "none", "aws-chunked", "compress"])
async def test_rules_with_an_unknown_content_encoding_are_read_as_they_are(
    site: Site, fetcher: Fetcher, coding: str
) -> None:
    _robots(site, "User-agent: *\nDisallow: /private\n", headers={"Content-Encoding": coding})
    site.serve("/public", http_response(b"hello"))

    assert (await _fetch(fetcher, site.url("/public"))).status is FetchStatus.OK
    assert (await _fetch(fetcher, site.url("/private"))).status is FetchStatus.ROBOTS_DENIED


@pytest.mark.asyncio
async def test_without_the_option_robots_txt_is_not_requested(site: Site, fetcher: Fetcher) -> None:
    _robots(site, "User-agent: *\nDisallow: /\n")
    url = site.serve("/", http_response(b"hello"))

    assert (await fetch({"fetcher": fetcher}, FetchRequest(url=url))).status is FetchStatus.OK
    assert _targets(site) == ["/"]


@pytest.mark.asyncio
async def test_each_hop_of_a_redirect_is_checked(site: Site, fetcher: Fetcher) -> None:
    _robots(site, "User-agent: *\nDisallow: /closed\n")
    url = site.serve("/open", http_response(status=302, headers={"Location": "/closed"}))

    result = await _fetch(fetcher, url)

    assert (result.status, result.final_url) == (FetchStatus.ROBOTS_DENIED, site.url("/closed"))
    assert _targets(site) == ["/robots.txt", "/open"]


@pytest.mark.asyncio
async def test_a_redirect_to_another_origin_uses_its_robots_txt(site: Site, fetcher: Fetcher) -> None:
    other = Site()
    await other.start()
    _robots(other, "User-agent: *\nDisallow: /\n")
    url = site.serve("/", http_response(status=302, headers={"Location": other.url("/there")}))

    result = await _fetch(fetcher, url)

    assert result.status is FetchStatus.ROBOTS_DENIED
    assert _targets(other) == ["/robots.txt"]
    await other.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [300, 304, 400, 401, 403, 404, 410])
async def test_a_missing_robots_txt_allows_all(site: Site, fetcher: Fetcher, status: int) -> None:
    _robots(site, "User-agent: *\nDisallow: /\n", status=status)
    assert (await _fetch(fetcher, site.serve("/", http_response(b"hello")))).status is FetchStatus.OK


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [429, 500, 503, 599])
async def test_after_a_server_error_no_url_is_requested_and_none_is_called_denied(
    site: Site, fetcher: Fetcher, status: int
) -> None:
    _robots(site, "", status=status)
    url = site.serve("/", http_response(b"hello"))

    results = [await _fetch(fetcher, url, retry=AT_ONCE) for _ in range(2)]

    assert [(result.status, result.http_status) for result in results] == [(FetchStatus.HTTP_ERROR, status)] * 2
    assert results[0].error == f"robots.txt cannot be had: the server responded {status}"
    assert _targets(site) == ["/robots.txt"], "the second URL does not make another request"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", FetchStatus.CONNECT_ERROR),
        (b"nonsense\r\n\r\n", FetchStatus.BAD_RESPONSE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nUser-agent: *\nAllow: /", FetchStatus.BAD_RESPONSE),
    ],
    ids=["hangs up", "speaks no HTTP", "is cut short"],
)
async def test_an_unreadable_robots_txt_fails_as_it_did(
    site: Site, fetcher: Fetcher, data: bytes, status: FetchStatus
) -> None:
    async def break_off(visit: Visit) -> None:
        await visit.send(data)
        visit.writer.close()

    site.serve("/robots.txt", break_off)
    site.serve("/", http_response(b"hello"))

    result = await _fetch(fetcher, site.url("/"), retry=AT_ONCE)

    assert (result.status, result.http_status) == (status, None)
    assert (result.error or "").startswith("robots.txt cannot be had: ")
    assert _targets(site) == ["/robots.txt"]


@pytest.mark.asyncio
async def test_a_passing_failure_of_robots_txt_is_waited_for_without_counting_an_attempt(
    site: Site, fetcher: Fetcher, quick: None
) -> None:
    site.serve("/robots.txt", *[http_response(status=status) for status in (503, 429, 500, 404)])
    site.serve("/", http_response(b"hello"))

    results = await asyncio.gather(*(_fetch(fetcher, site.url(f"/?{n}")) for n in range(30)))

    assert {result.status for result in results} == {FetchStatus.OK}
    assert {len(result.attempts) for result in results} == {1}
    assert _targets(site).count("/robots.txt") == 4, "one request for all jobs each time"


@pytest.mark.asyncio
async def test_a_retry_after_of_robots_txt_is_obeyed(site: Site, fetcher: Fetcher, quick: None) -> None:
    _robots(site, "", status=503, headers={"Retry-After": "77.5"})
    url = site.serve("/", http_response(b"hello"))
    redis = AsyncMock()
    ctx: dict[str, Any] = {"fetcher": fetcher, "redis": redis, "job_id": "j", "job_try": 1}

    for _ in range(2):
        with pytest.raises(Snooze) as snoozed:
            await fetch_data(ctx, FetchRequest(url=url, robots=True))
        assert 77_000 < (snoozed.value.defer_score or 0) <= 78_000

    assert ctx["fetchq"].uncounted
    assert redis.mock_calls == [], "no attempt is recorded"
    assert _targets(site) == ["/robots.txt"]


@pytest.mark.asyncio
async def test_a_robots_txt_that_stays_away_ends_the_job_as_its_failure_once_it_was_retried(
    site: Site, fetcher: Fetcher, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fetchq_worker.fetch.job.retry.MAX_ROBOTS_WAIT_S", 0.05)
    _robots(site, "", status=503)
    url = site.serve("/", http_response(b"hello"))

    result = await _fetch(fetcher, url, retry=RetryPolicy(max_tries=3))

    assert (result.status, result.http_status, len(result.attempts)) == (FetchStatus.HTTP_ERROR, 503, 3)
    assert "/" not in _targets(site)


@pytest.mark.asyncio
async def test_a_deadline_before_the_next_request_of_robots_txt_ends_the_job_at_once(
    site: Site, fetcher: Fetcher
) -> None:
    _robots(site, "", status=503, headers={"Retry-After": "600"})
    url = site.serve("/", http_response(b"hello"))

    result = await _fetch(fetcher, url, deadline=datetime.now(UTC) + timedelta(seconds=500))

    assert (result.status, result.http_status) == (FetchStatus.HTTP_ERROR, 503)


@pytest.mark.asyncio
async def test_a_request_that_was_sent_and_must_not_be_repeated_does_not_wait(site: Site, fetcher: Fetcher) -> None:
    other = Site()
    await other.start()
    _robots(other, "", status=503)
    url = site.serve("/", http_response(status=307, headers={"Location": other.url("/there")}))

    result = await _fetch(fetcher, url, method="POST", body=b"once", retry=RetryPolicy(max_tries=3))

    assert (result.status, result.http_status, result.final_url) == (FetchStatus.HTTP_ERROR, 503, other.url("/there"))
    assert _targets(site) == ["/robots.txt", "/"]
    await other.stop()


@pytest.mark.asyncio
async def test_rules_that_were_read_before_are_used_while_newer_ones_cannot_be_had(
    site: Site, shared: list[Fetcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fetchq_worker.fetch.robots.record.RULES_TTL_S", 0.0)
    rules = http_response(b"User-agent: *\nDisallow: /private\n")
    site.serve("/robots.txt", rules, http_response(status=503))
    site.serve("/", http_response(b"hello"))

    for fetcher in (*shared, shared[0]):
        assert (await _fetch(fetcher, site.url("/"))).status is FetchStatus.OK
        assert (await _fetch(fetcher, site.url("/private"))).status is FetchStatus.ROBOTS_DENIED

    assert _targets(site).count("/robots.txt") == 2


@pytest.mark.asyncio
async def test_a_failure_of_robots_txt_is_known_to_the_other_workers(site: Site, shared: list[Fetcher]) -> None:
    _robots(site, "", status=503)
    url = site.serve("/", http_response(b"hello"))

    results = [await _fetch(fetcher, url, retry=AT_ONCE) for fetcher in shared]

    assert {result.status for result in results} == {FetchStatus.HTTP_ERROR}
    assert _targets(site) == ["/robots.txt"]


@pytest.mark.asyncio
async def test_an_unreachable_origin_is_reported_as_such(fetcher: Fetcher) -> None:
    gone = Site()
    await gone.start()
    await gone.stop()
    assert (await _fetch(fetcher, gone.url("/"))).status is FetchStatus.CONNECT_ERROR
    assert (await _fetch(fetcher, "http://10.0.0.1/")).status is FetchStatus.BLOCKED


@pytest.mark.asyncio
async def test_five_redirects_of_robots_txt_are_followed_and_a_sixth_allows_all(site: Site, fetcher: Fetcher) -> None:
    _robots(site, "", status=301, headers={"Location": "/r1"})
    for n in range(1, 5):
        site.serve(f"/r{n}", http_response(status=302, headers={"Location": f"/r{n + 1}"}))
    site.serve("/r5", http_response(b"User-agent: *\nDisallow: /\n"))
    url = site.serve("/", http_response(b"hello"))
    assert (await _fetch(fetcher, url)).status is FetchStatus.ROBOTS_DENIED

    site.serve("/r5", http_response(status=302, headers={"Location": "/r6"}))
    async with Fetcher(user_agent="fetchq-tests/1", allow_net=LOOPBACK) as another:
        assert (await _fetch(another, url)).status is FetchStatus.OK
    assert "/r6" not in _targets(site)


@pytest.mark.asyncio
@pytest.mark.parametrize("location", ["ftp://example.org/", "http://[::1", "mailto:a@b.invalid", "http://u@c.invalid/"])
async def test_a_robots_txt_that_redirects_to_no_http_url_is_none(site: Site, fetcher: Fetcher, location: str) -> None:
    _robots(site, "", status=302, headers={"Location": location})
    assert (await _fetch(fetcher, site.serve("/", http_response(b"hello")))).status is FetchStatus.OK


@pytest.mark.asyncio
async def test_a_robots_txt_that_redirects_to_a_forbidden_address_is_not_waited_for_and_reveals_nothing(
    site: Site, fetcher: Fetcher
) -> None:
    _robots(site, "", status=302, headers={"Location": "http://10.0.0.1/robots.txt"})
    result = await _fetch(fetcher, site.serve("/", http_response(b"hello")))
    assert result.status is FetchStatus.BLOCKED
    assert "10.0.0.1" not in (result.error or "")


@pytest.mark.asyncio
async def test_concurrent_look_ups_make_one_request(site: Site, fetcher: Fetcher) -> None:
    gate = asyncio.Event()

    async def slowly(visit: Visit) -> None:
        await gate.wait()
        await visit.send(http_response(b"User-agent: *\nDisallow: /private\n"))

    site.serve("/robots.txt", slowly)
    site.serve("/", http_response(b"hello"))
    fetches = [asyncio.create_task(_fetch(fetcher, site.url("/"))) for _ in range(50)]
    while "/robots.txt" not in _targets(site):
        await asyncio.sleep(0)
    fetches[0].cancel()  # the one that began the look-up; the others must not be affected
    await asyncio.gather(fetches[0], return_exceptions=True)
    gate.set()

    results = await asyncio.gather(*fetches[1:])

    assert {result.status for result in results} == {FetchStatus.OK}
    assert _targets(site).count("/robots.txt") == 1


@pytest.mark.asyncio
async def test_a_slow_robots_txt_ends_the_attempt_in_its_time_and_is_waited_for(site: Site, fetcher: Fetcher) -> None:
    answer = asyncio.Event()

    async def slowly(visit: Visit) -> None:
        await answer.wait()
        await visit.send(http_response(b""))

    site.serve("/robots.txt", slowly)
    site.serve("/", http_response(b"hello"))

    at_once = await _fetch(fetcher, site.url("/"), timeout_s=1.0, retry=AT_ONCE)
    waiting = asyncio.create_task(_fetch(fetcher, site.url("/"), timeout_s=0.2))
    while len(fetcher.robots._lookups) == 0 or waiting.done():
        await asyncio.sleep(0.01)
    answer.set()

    assert at_once.status is FetchStatus.TIMEOUT
    assert at_once.error == "robots.txt cannot be had: the attempt took longer than timeout_s"
    result = await waiting
    assert (result.status, len(result.attempts)) == (FetchStatus.OK, 1)
    assert _targets(site) == ["/robots.txt", "/"]


@pytest.mark.asyncio
async def test_robots_txt_is_shared_with_other_workers(site: Site, shared: list[Fetcher]) -> None:
    _robots(site, "User-agent: *\nDisallow: /private\nCrawl-delay: 7\n")
    site.serve("/", http_response(b"hello"))

    for fetcher in shared:
        assert (await _fetch(fetcher, site.url("/"))).status is FetchStatus.OK
        assert (await _fetch(fetcher, site.url("/private"))).status is FetchStatus.ROBOTS_DENIED
        assert fetcher.robots.crawl_delay_s(site.url("/")) == 7.0

    assert _targets(site).count("/robots.txt") == 1


@pytest.mark.asyncio
async def test_robots_txt_in_redis_expires(site: Site, shared: list[Fetcher], embedded: EmbeddedRedis) -> None:
    redis = embedded.client()
    for status, ttl_s in ((503, 3600 + 1), (404, 86_400)):
        _robots(site, "", status=status)
        await _fetch(shared[0], site.url("/"), retry=AT_ONCE)
        [key] = await redis.keys(f"{Keys().robots}*")
        assert ttl_s - 60 < await redis.pttl(key) / 1000 <= ttl_s
        await redis.delete(key)
        shared[0].robots._known.clear()
    await redis.aclose()


@pytest.mark.asyncio
async def test_the_crawl_delay_is_in_the_ctx(site: Site, fetcher: Fetcher, embedded: EmbeddedRedis) -> None:
    _robots(site, "User-agent: fetchq-tests\nCrawl-delay: 2.5\nAllow: /\n\nUser-agent: *\nDisallow: /\n")
    url = site.serve("/", http_response(b"hello"))
    redis = embedded.client()
    ctx: dict[str, Any] = {"fetcher": fetcher, "redis": redis, "job_id": "j", "job_try": 1}

    result = await fetch_data(ctx, FetchRequest(url=url, robots=True))

    assert result.status is FetchStatus.OK
    assert ctx["crawl_delay_s"] == 2.5
    await redis.aclose()


@pytest.mark.asyncio
async def test_only_whole_lines_of_the_first_500_kib_count_decoded_or_not(site: Site, fetcher: Fetcher) -> None:
    filler = "# filler\n" * (MAX_ROBOTS_BYTES // 9 - 5)
    cut = "#" * (MAX_ROBOTS_BYTES - len(filler) - len("User-agent: *\nDisallow: /early\n\nDisallow: /"))
    text = f"User-agent: *\nDisallow: /early\n{filler}{cut}\nDisallow: /late\n{filler * 20}".encode()
    site.serve("/robots.txt", http_response(gzip.compress(text), headers={"Content-Encoding": "gzip"}))
    site.serve("/late", http_response(b"hello"))

    assert (await _fetch(fetcher, site.url("/early"))).status is FetchStatus.ROBOTS_DENIED
    assert (await _fetch(fetcher, site.url("/late"))).status is FetchStatus.OK


@pytest.mark.asyncio
@pytest.mark.parametrize("coding", ["utf-8", "none", "compress", "gzip, x"])
async def test_rules_of_an_unknown_coding_are_read_as_they_are(site: Site, fetcher: Fetcher, coding: str) -> None:
    body = b"User-agent: *\nDisallow: /private\n"
    site.serve("/robots.txt", http_response(body, headers={"Content-Encoding": coding}))

    assert (await _fetch(fetcher, site.url("/private"))).status is FetchStatus.ROBOTS_DENIED
    assert (await _fetch(fetcher, site.serve("/public", http_response()))).status is FetchStatus.OK


@pytest.mark.asyncio
async def test_a_hostile_file_does_not_block_the_event_loop(site: Site, fetcher: Fetcher) -> None:
    _robots(site, "User-agent: *\n" + "".join(f"Disallow: *{n}*b$\n" for n in range(20_000)))
    url = site.serve("/" + "a" * 8_000, http_response(b"hello"))
    longest_s = 0.0
    checking = asyncio.create_task(_fetch(fetcher, url))
    while not checking.done():
        began = time.thread_time()
        await asyncio.sleep(0.001)
        longest_s = max(longest_s, time.thread_time() - began)

    assert (await checking).status is FetchStatus.OK
    assert longest_s < 0.05, "CPU time of the loop's thread, which a busy machine does not prolong"
