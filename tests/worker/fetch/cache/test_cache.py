"""HTTP caching by RFC 9111, through a Redis that two workers share."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from tests.support.redis_server import RedisServer
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest, FetchResult, FetchStatus, RetryPolicy
from fetchq.store.connection import connect
from fetchq.store.keys import Keys
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.access.credentials import Credentials, Header, Secret
from fetchq_worker.fetch.cache.freshness import (
    StoredResponse,
    age_s,
    directives_of,
    freshened,
    is_fresh,
    keep_s,
    lifetime_s,
    may_store,
    may_use_stale,
    validates,
)
from fetchq_worker.fetch.cache.http_cache import MAX_STORED_BYTES
from fetchq_worker.fetch.cache.shared_cache import SharedCache
from fetchq_worker.process.embedded import EmbeddedRedis

ONCE = RetryPolicy(max_tries=1)
NOW = 1_700_000_000.0
WEEK = 7 * 86_400.0


def _stored(status: int = 200, **headers: str) -> StoredResponse:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return StoredResponse(status, pairs, b"body", NOW, NOW)


def _date(offset_s: float) -> str:
    return formatdate(NOW + offset_s, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "lifetime"),
    [
        ({"cache_control": "max-age=60"}, 60),
        ({"cache_control": "max-age=60, s-maxage=10"}, 10),
        ({"cache_control": 'MAX-AGE="60"'}, 60),
        ({"cache_control": "max-age=60, max-age=5"}, 60),
        ({"cache_control": "max-age=-1"}, 0),
        ({"cache_control": "max-age=1e9"}, 0),
        ({"cache_control": "max-age=60", "expires": "0"}, 60),
        ({"expires": _date(90), "date": _date(30)}, 60),
        ({"expires": _date(90)}, 90),
        ({"expires": "0"}, 0),
        ({"expires": _date(-5), "date": _date(0)}, 0),
        ({"last_modified": _date(-1000), "date": _date(0)}, 100),
        ({"last_modified": _date(-1e8), "date": _date(0)}, 86_400),
        ({"last_modified": _date(1000), "date": _date(0)}, 0),
        ({}, 0),
    ],
)
def test_the_freshness_lifetime_follows_the_rfc(headers: dict[str, str], lifetime: float) -> None:
    assert lifetime_s(_stored(200, **headers)) == lifetime


def test_a_response_without_heuristic_freshness_is_stale_at_once() -> None:
    assert lifetime_s(_stored(500, last_modified=_date(-1000), date=_date(0))) == 0


def test_age_sums_the_age_field_the_transfer_and_the_time_in_the_cache() -> None:
    assert age_s(_stored(), NOW + 5) == 5
    assert age_s(_stored(date=_date(-7)), NOW + 5) == 12
    assert age_s(_stored(age="40", date=_date(-7)), NOW + 5) == 45
    assert age_s(_stored(age="nonsense", date=_date(100)), NOW) == 0
    slow = StoredResponse(200, (("Age", "10"),), b"", NOW - 3, NOW)
    assert age_s(slow, NOW) == 13


@pytest.mark.parametrize(
    ("headers", "asked", "after_s", "fresh"),
    [
        ({"cache_control": "max-age=60"}, "", 59, True),
        ({"cache_control": "max-age=60"}, "", 60, False),
        ({"cache_control": "max-age=60, no-cache"}, "", 1, False),
        ({"cache_control": "max-age=60"}, "no-cache", 1, False),
        ({"cache_control": "max-age=60"}, "max-age=10", 11, False),
        ({"cache_control": "max-age=60"}, "max-age=0", 1, False),
        ({"cache_control": "max-age=60"}, "min-fresh=30", 31, False),
        ({"cache_control": "max-age=60"}, "min-fresh=30", 29, True),
    ],
)
def test_freshness_depends_on_the_directives_of_request_and_response(
    headers: dict[str, str], asked: str, after_s: float, fresh: bool
) -> None:
    assert is_fresh(directives_of([asked]), _stored(200, **headers), NOW + after_s) == fresh


@pytest.mark.parametrize(
    ("response", "has_credentials", "stores"),
    [
        (_stored(cache_control="max-age=60"), False, True),
        (_stored(etag='"a"'), False, True),
        (_stored(), False, False),
        (_stored(404, cache_control="max-age=60"), False, True),
        (_stored(500, cache_control="max-age=60"), False, True),
        (_stored(500, etag='"a"'), False, False),
        (_stored(206, cache_control="max-age=60"), False, False),
        (_stored(304, cache_control="max-age=60"), False, False),
        (_stored(cache_control="max-age=60, no-store"), False, False),
        (_stored(cache_control="max-age=60, private"), False, False),
        (_stored(cache_control='max-age=60, private="set-cookie"'), False, False),
        (_stored(cache_control="max-age=60", vary="Accept, *"), False, False),
        (_stored(cache_control="max-age=60", set_cookie="a=b"), False, False),
        (_stored(cache_control="max-age=60, public", set_cookie="a=b"), False, True),
        (_stored(cache_control="max-age=60"), True, False),
        (_stored(cache_control="max-age=60, public"), True, True),
        (_stored(cache_control="s-maxage=60"), True, True),
        (_stored(cache_control="max-age=60, must-revalidate"), True, True),
    ],
)
def test_only_responses_that_a_shared_cache_may_store_are_stored(
    response: StoredResponse, has_credentials: bool, stores: bool
) -> None:
    assert may_store("GET", {}, has_credentials, response) == stores
    assert not may_store("POST", {}, has_credentials, response)
    assert not may_store("GET", {"no-store": ""}, has_credentials, response)


@pytest.mark.parametrize(
    ("control", "after_s", "stands_in"),
    [
        ("max-age=10, stale-if-error=60", 69, True),
        ("max-age=10, stale-if-error=60", 70, False),
        ("max-age=10", 11, False),
        ("max-age=10, stale-if-error=60, must-revalidate", 20, False),
        ("s-maxage=10, stale-if-error=60", 20, False),
        ("no-cache, stale-if-error=60", 20, False),
    ],
)
def test_a_stale_response_is_used_only_within_stale_if_error(control: str, after_s: float, stands_in: bool) -> None:
    assert may_use_stale({}, _stored(cache_control=control), NOW + after_s) == stands_in


def test_a_response_is_stored_for_a_week_at_most_and_only_while_usable() -> None:
    assert keep_s(_stored(cache_control="max-age=99999999"), NOW) == WEEK
    assert keep_s(_stored(cache_control="max-age=10"), NOW) == 10
    assert keep_s(_stored(cache_control="max-age=10", etag='"a"'), NOW) == 86_410
    assert keep_s(_stored(cache_control="max-age=10", age="20"), NOW) == 0


def test_a_304_updates_headers_but_not_those_of_the_body() -> None:
    old = _stored(cache_control="max-age=10", content_type="text/plain", etag='"a"', age="9")
    headers = (("Cache-Control", "max-age=99"), ("Content-Type", "x/y"), ("Connection", "X-Hop"), ("X-Hop", "1"))
    fresh = freshened(old, headers, NOW + 20, NOW + 21)
    assert lifetime_s(fresh) == 99
    assert age_s(fresh, NOW + 21) == 1
    assert fresh.values("content-type") == ["text/plain"]
    assert fresh.values("x-hop") == fresh.values("connection") == []
    assert validates(old, (("ETag", 'W/"a"'),))
    assert not validates(old, (("ETag", '"b"'),))


@pytest_asyncio.fixture
async def workers(embedded: EmbeddedRedis) -> AsyncIterator[list[Fetcher]]:
    """Two workers' clients on one Redis."""
    redis = embedded.client()
    workers = [_worker(redis) for _ in range(2)]
    yield workers
    for fetcher in workers:
        await fetcher.aclose()
    await redis.aclose()


def _worker(redis: Any, **options: Any) -> Fetcher:
    shared_cache = SharedCache(redis, Keys())
    return Fetcher(user_agent="fetchq-tests/1", allow_net=("127.0.0.0/8",), shared_cache=shared_cache, **options)


async def _fetch(fetcher: Fetcher, url: str, **options: Any) -> FetchResult:
    return await fetch({"fetcher": fetcher}, FetchRequest.of(url, retry=ONCE, cache=True, **options))


@pytest.mark.asyncio
async def test_a_response_that_one_worker_stored_serves_another(site: Site, workers: list[Fetcher]) -> None:
    url = site.serve(
        "/", http_response(b"[1]", headers={"Cache-Control": "max-age=60", "Content-Type": "application/json"})
    )

    first, second = [await _fetch(worker, f"{url}#part") for worker in workers]

    assert (first.from_cache, second.from_cache) == (False, True)
    assert (second.status, second.http_status, second.data, second.body_sha256) == (
        first.status,
        first.http_status,
        first.data,
        first.body_sha256,
    )
    assert dict(second.headers)["Age"] == "0"
    assert len(site.visits) == 1


@pytest.mark.asyncio
async def test_without_cache_nothing_is_stored_or_used(site: Site, workers: list[Fetcher]) -> None:
    url = site.serve("/", http_response(b"1", headers={"Cache-Control": "max-age=60"}))
    plain = FetchRequest(url=url)
    await fetch({"fetcher": workers[0]}, plain)
    assert not (await _fetch(workers[0], url)).from_cache
    assert not (await fetch({"fetcher": workers[0]}, plain)).from_cache
    assert len(site.visits) == 3


@pytest.mark.asyncio
async def test_a_stale_response_is_revalidated_and_reused(site: Site, workers: list[Fetcher]) -> None:
    old = {"Cache-Control": "max-age=0", "ETag": '"a"', "Last-Modified": formatdate(NOW, usegmt=True)}
    url = site.serve(
        "/",
        http_response(b"old", headers=old),
        http_response(status=304, headers={"ETag": '"a"', "Cache-Control": "max-age=60"}, length=False),
    )

    results = [await _fetch(workers[0], url) for _ in range(3)]

    assert [(result.body, result.from_cache, result.status) for result in results] == [
        (b"old", False, FetchStatus.OK),
        (b"old", True, FetchStatus.OK),
        (b"old", True, FetchStatus.OK),
    ]
    assert [visit.header("If-None-Match") for visit in site.visits] == [None, '"a"']
    assert site.visits[1].header("If-Modified-Since") == formatdate(NOW, usegmt=True)


@pytest.mark.asyncio
async def test_a_new_response_replaces_a_stale_one(site: Site, workers: list[Fetcher]) -> None:
    url = site.serve(
        "/",
        http_response(b"old", headers={"Cache-Control": "max-age=0", "ETag": '"a"'}),
        http_response(b"new", headers={"Cache-Control": "max-age=60"}),
    )
    assert [(await _fetch(workers[0], url)).body for _ in range(3)] == [b"old", b"new", b"new"]
    assert len(site.visits) == 2


@pytest.mark.asyncio
async def test_a_304_for_another_etag_is_a_bad_response_and_evicts_the_stored_one(
    site: Site, workers: list[Fetcher]
) -> None:
    url = site.serve(
        "/",
        http_response(b"old", headers={"Cache-Control": "max-age=0", "ETag": '"a"'}),
        http_response(status=304, headers={"ETag": '"b"'}, length=False),
        http_response(b"new"),
    )
    statuses = [(await _fetch(workers[0], url)).status for _ in range(3)]
    assert statuses == [FetchStatus.OK, FetchStatus.BAD_RESPONSE, FetchStatus.OK]
    assert site.visits[2].header("If-None-Match") is None


@pytest.mark.asyncio
async def test_responses_that_vary_are_stored_apart(site: Site, workers: list[Fetcher]) -> None:
    vary = {"Cache-Control": "max-age=60", "Vary": "Accept-Language, User-Agent"}
    url = site.serve("/", http_response(b"de", headers=vary), http_response(b"en", headers=vary))

    async def ask(language: str) -> tuple[bytes, bool]:
        result = await _fetch(workers[0], url, headers={"accept-language": language})
        return result.body, result.from_cache

    assert [await ask(language) for language in ("de", "en", "de", "en")] == [
        (b"de", False),
        (b"en", False),
        (b"de", True),
        (b"en", True),
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "failing", [http_response(status=503), b"nonsense\r\n\r\n"], ids=["answers 503", "speaks no HTTP"]
)
async def test_a_stale_response_is_used_after_a_server_error(
    site: Site, workers: list[Fetcher], failing: bytes
) -> None:
    url = site.serve("/", http_response(b"old", headers={"Cache-Control": "max-age=0, stale-if-error=60"}), failing)
    await _fetch(workers[0], url)
    result = await _fetch(workers[1], url)
    assert (result.status, result.body, result.from_cache) == (FetchStatus.OK, b"old", True)


@pytest.mark.asyncio
async def test_a_stale_response_is_used_for_an_unreachable_server_but_not_for_a_forbidden_one(
    embedded: EmbeddedRedis,
) -> None:
    site = Site()
    await site.start()
    url = site.serve("/", http_response(b"old", headers={"Cache-Control": "max-age=60, stale-if-error=60"}))
    redis = embedded.client()
    async with _worker(redis) as fetcher:
        await _fetch(fetcher, url)
        await site.stop()
        assert (await _fetch(fetcher, url, headers={"Cache-Control": "max-age=0"})).body == b"old"
    async with Fetcher(user_agent="fetchq-tests/1", shared_cache=SharedCache(redis, Keys())) as closed:
        assert (await _fetch(closed, url)).status is FetchStatus.BLOCKED
    await redis.aclose()


@pytest.mark.asyncio
async def test_a_response_fetched_with_a_credential_is_not_served_to_others(
    site: Site, embedded: EmbeddedRedis
) -> None:
    url = site.serve("/", http_response(b"mine", headers={"Cache-Control": "max-age=60"}))
    key = Header(name="X-Key", value=Secret("s"), origins=(site.url(),))
    redis = embedded.client()
    async with _worker(redis, credentials=Credentials(credentials={"key": key})) as fetcher:
        for options in ({"credential": "key"}, {"headers": {"Authorization": "x"}}, {"headers": {"Cookie": "a=b"}}):
            await _fetch(fetcher, url, **options)
        assert not (await _fetch(fetcher, url)).from_cache
    await redis.aclose()


@pytest.mark.asyncio
async def test_requests_with_their_own_conditions_or_ranges_bypass_the_cache(
    site: Site, workers: list[Fetcher]
) -> None:
    url = site.serve("/", http_response(b"1", headers={"Cache-Control": "max-age=60", "ETag": '"a"'}))
    for _ in range(2):
        for headers in ({"Range": "bytes=0-1"}, {"If-None-Match": '"b"'}, {"Cache-Control": "no-store"}):
            assert not (await _fetch(workers[0], url, headers=headers)).from_cache
    assert len(site.visits) == 6


@pytest.mark.asyncio
async def test_max_bytes_applies_to_stored_responses(site: Site, workers: list[Fetcher]) -> None:
    url = site.serve("/", http_response(b"x" * 1000, headers={"Cache-Control": "max-age=60"}))
    await _fetch(workers[0], url)
    assert (await _fetch(workers[0], url, max_bytes=10)).status is FetchStatus.TOO_LARGE
    big = site.serve("/big", http_response(b"x" * (MAX_STORED_BYTES + 1), headers={"Cache-Control": "max-age=60"}))
    assert [(await _fetch(workers[0], big)).from_cache for _ in range(2)] == [False, False]


@pytest.mark.asyncio
async def test_without_redis_a_fetch_is_made_each_time(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", http_response(b"1", headers={"Cache-Control": "max-age=60"}))
    results = [await _fetch(fetcher, url) for _ in range(2)]
    assert [(result.status, result.from_cache) for result in results] == [(FetchStatus.OK, False)] * 2


@pytest.mark.asyncio
async def test_without_redis_the_cache_fails_and_the_fetch_succeeds(site: Site, own_redis_server: RedisServer) -> None:
    url = site.serve("/", http_response(b"1", headers={"Cache-Control": "max-age=60"}))
    redis: Redis = connect(own_redis_server.url)
    async with _worker(redis) as fetcher:
        assert not (await _fetch(fetcher, url)).from_cache
        assert (await _fetch(fetcher, url)).from_cache
        own_redis_server.stop()
        assert (await _fetch(fetcher, url, robots=True)).status is FetchStatus.OK
    await redis.aclose()


@pytest.mark.asyncio
async def test_the_shared_cache_is_bounded_in_bytes_and_counts_exactly(redis_server: RedisServer) -> None:
    redis: Any = connect(redis_server.url)
    shared_cache = SharedCache(redis, Keys(), max_bytes=10_000)
    for n in range(100):
        await shared_cache.put(f"{Keys().cache}{n}", b"x" * 500, 1000.0 + n)
    await shared_cache.put(f"{Keys().cache}99", b"y" * 700, 1000.0)
    await shared_cache.put(f"{Keys().cache}huge", b"x" * 20_000, 1000.0)

    held = list(await redis.keys(f"{Keys().cache}*"))
    sizes = {key: await redis.strlen(key) for key in held}
    assert sum(sizes.values()) <= 10_000
    recorded = await redis.hgetall(Keys().shared_cache_sizes)
    assert int(recorded.pop(b"")) == sum(sizes.values())
    assert {key: int(size) for key, size in recorded.items()} == sizes
    assert set(held) == set(await redis.zrange(Keys().shared_cache, 0, -1))
    await redis.aclose()


@pytest.mark.asyncio
async def test_expired_entries_free_their_bytes(redis_server: RedisServer) -> None:
    redis: Any = connect(redis_server.url)
    shared_cache = SharedCache(redis, Keys(), max_bytes=1000)
    await shared_cache.put(f"{Keys().cache}short", b"x" * 900, 0.05)
    until = time.monotonic() + 5
    while await redis.exists(f"{Keys().cache}short", Keys().shared_cache, Keys().shared_cache_sizes):
        assert time.monotonic() < until
    await shared_cache.put(f"{Keys().cache}next", b"x" * 900, 100.0)
    assert await shared_cache.get(f"{Keys().cache}next") == b"x" * 900
    assert await redis.hget(Keys().shared_cache_sizes, "") == b"900"
    await redis.aclose()
