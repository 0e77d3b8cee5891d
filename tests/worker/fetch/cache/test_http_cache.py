"""HTTP caching by RFC 9111, through a Redis that two workers share."""

from __future__ import annotations

from email.utils import formatdate

import msgspec
import pytest
import trustme
from redis.asyncio import Redis
from tests.support.redis_server import RedisServer
from tests.support.web.bad_tls import HOST, good, trust
from tests.support.web.caching import cached_fetch, caching_worker
from tests.support.web.site import Site, Visit, http_response
from tests.support.web.stored import NOW

from fetchq import FetchRequest, FetchStatus, RetryPolicy
from fetchq.store.connection import connect
from fetchq.store.keys import Keys
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.access.credentials import Credentials, Header, Secret
from fetchq_worker.fetch.cache.http_cache import MAX_STORED_BYTES
from fetchq_worker.fetch.cache.shared_cache import SharedCache
from fetchq_worker.process.embedded import EmbeddedRedis


@pytest.mark.asyncio
async def test_a_response_that_one_worker_stored_serves_another(site: Site, workers: list[Fetcher]) -> None:
    url = site.serve(
        "/", http_response(b"[1]", headers={"Cache-Control": "max-age=60", "Content-Type": "application/json"})
    )

    first, second = [await cached_fetch(worker, f"{url}#part") for worker in workers]

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
    assert not (await cached_fetch(workers[0], url)).from_cache
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

    results = [await cached_fetch(workers[0], url) for _ in range(3)]

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
    assert [(await cached_fetch(workers[0], url)).body for _ in range(3)] == [b"old", b"new", b"new"]
    assert len(site.visits) == 2


@pytest.mark.asyncio
async def test_a_304_for_another_etag_is_asked_for_again_without_condition(site: Site, workers: list[Fetcher]) -> None:
    url = site.serve(
        "/",
        http_response(b"old", headers={"Cache-Control": "max-age=0", "ETag": '"a"'}),
        http_response(status=304, headers={"ETag": '"b"'}, length=False),
        http_response(b"new"),
    )
    results = [await cached_fetch(workers[0], url) for _ in range(3)]
    assert [(result.body, result.from_cache) for result in results] == [
        (b"old", False),
        (b"new", False),
        (b"new", False),
    ]
    assert [visit.header("If-None-Match") for visit in site.visits] == [None, '"a"', None, None]


@pytest.mark.asyncio
async def test_a_stale_response_that_was_replaced_by_one_not_to_be_stored_is_not_used_again(
    site: Site, workers: list[Fetcher]
) -> None:
    old = {"Cache-Control": "max-age=0, stale-if-error=60", "ETag": '"a"'}
    url = site.serve(
        "/",
        http_response(b"old", headers=old),
        http_response(b"new", headers={"Cache-Control": "no-store"}),
        http_response(status=503),
    )
    assert [(await cached_fetch(workers[0], url)).http_status for _ in range(3)] == [200, 200, 503]


@pytest.mark.asyncio
async def test_a_304_that_forbids_storing_removes_the_stored_response(site: Site, workers: list[Fetcher]) -> None:
    forbids = {"ETag": '"a"', "Cache-Control": "no-store"}
    url = site.serve(
        "/",
        http_response(b"old", headers={"Cache-Control": "max-age=0", "ETag": '"a"'}),
        http_response(status=304, headers=forbids, length=False),
        http_response(b"new"),
    )
    assert [(await cached_fetch(workers[0], url)).body for _ in range(3)] == [b"old", b"old", b"new"]
    assert site.visits[2].header("If-None-Match") is None


@pytest.mark.asyncio
async def test_responses_that_vary_are_stored_apart(site: Site, workers: list[Fetcher]) -> None:
    vary = {"Cache-Control": "max-age=60", "Vary": "Accept-Language, User-Agent"}
    url = site.serve("/", http_response(b"de", headers=vary), http_response(b"en", headers=vary))

    async def ask(language: str) -> tuple[bytes, bool]:
        result = await cached_fetch(workers[0], url, headers={"accept-language": language})
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
    await cached_fetch(workers[0], url)
    result = await cached_fetch(workers[1], url)
    assert (result.status, result.body, result.from_cache) == (FetchStatus.OK, b"old", True)


@pytest.mark.asyncio
async def test_a_stale_response_is_used_for_an_unreachable_server_but_not_for_a_forbidden_one(
    embedded: EmbeddedRedis,
) -> None:
    site = Site()
    await site.start()
    url = site.serve("/", http_response(b"old", headers={"Cache-Control": "max-age=60, stale-if-error=60"}))
    redis = embedded.client()
    async with caching_worker(redis) as fetcher:
        await cached_fetch(fetcher, url)
        await site.stop()
        assert (await cached_fetch(fetcher, url, headers={"Cache-Control": "max-age=0"})).body == b"old"
    async with Fetcher(user_agent="fetchq-tests/1", shared_cache=SharedCache(redis, Keys())) as closed:
        assert (await cached_fetch(closed, url)).status is FetchStatus.BLOCKED
    await redis.aclose()


@pytest.mark.asyncio
async def test_a_response_fetched_with_a_credential_is_not_served_to_others(
    site: Site, embedded: EmbeddedRedis
) -> None:
    url = site.serve("/", http_response(b"mine", headers={"Cache-Control": "max-age=60"}))
    key = Header(name="X-Key", value=Secret("s"), origins=(site.url(),))
    redis = embedded.client()
    async with caching_worker(redis, credentials=Credentials(credentials={"key": key})) as fetcher:
        for options in ({"credential": "key"}, {"headers": {"Authorization": "x"}}, {"headers": {"Cookie": "a=b"}}):
            await cached_fetch(fetcher, url, **options)
        assert not (await cached_fetch(fetcher, url)).from_cache
    await redis.aclose()


@pytest.mark.asyncio
async def test_requests_with_ranges_or_no_store_bypass_the_cache(site: Site, workers: list[Fetcher]) -> None:
    url = site.serve("/", http_response(b"1", headers={"Cache-Control": "max-age=60", "ETag": '"a"'}))
    await cached_fetch(workers[0], url)
    for headers in ({"Range": "bytes=0-1"}, {"If-Match": '"b"'}, {"Cache-Control": "no-store"}):
        assert not (await cached_fetch(workers[0], url, headers=headers)).from_cache
    assert len(site.visits) == 4


@pytest.mark.asyncio
async def test_a_fresh_response_answers_the_condition_of_a_request(site: Site, workers: list[Fetcher]) -> None:
    url = site.serve("/", http_response(b"1", headers={"Cache-Control": "max-age=60", "ETag": '"a"'}))
    await cached_fetch(workers[0], url, headers={"If-None-Match": '"old"'})
    same = await cached_fetch(workers[1], url, headers={"If-None-Match": '"x", W/"a"'})
    other = await cached_fetch(workers[1], url, headers={"If-None-Match": '"b"'})
    assert (same.status, same.http_status, same.body) == (FetchStatus.NOT_MODIFIED, 304, b"")
    assert (other.status, other.body) == (FetchStatus.OK, b"1")
    assert len(site.visits) == 1


@pytest.mark.asyncio
async def test_the_condition_of_a_request_is_sent_if_no_fresh_response_is_stored(
    site: Site, workers: list[Fetcher]
) -> None:
    url = site.serve(
        "/",
        http_response(b"1", headers={"Cache-Control": "max-age=0", "ETag": '"a"'}),
        http_response(status=304, headers={"ETag": '"b"'}, length=False),
    )
    await cached_fetch(workers[0], url)
    result = await cached_fetch(workers[0], url, headers={"If-None-Match": '"b"'})
    assert (result.status, result.from_cache) == (FetchStatus.NOT_MODIFIED, False)
    assert site.visits[1].header("If-None-Match") == '"b"'


@pytest.mark.asyncio
async def test_only_if_cached_never_asks_the_server(site: Site, workers: list[Fetcher]) -> None:
    url = site.serve("/", http_response(b"1", headers={"Cache-Control": "max-age=60"}))
    only = {"headers": {"Cache-Control": "only-if-cached"}}
    assert (await cached_fetch(workers[0], url, **only)).http_status == 504
    await cached_fetch(workers[0], url)
    assert (await cached_fetch(workers[0], url, **only)).body == b"1"
    assert len(site.visits) == 1


@pytest.mark.asyncio
async def test_a_response_to_get_answers_head(site: Site, workers: list[Fetcher]) -> None:
    url = site.serve("/", http_response(b"1234", headers={"Cache-Control": "max-age=60"}))
    await cached_fetch(workers[0], url)
    result = await cached_fetch(workers[1], url, method="HEAD")
    assert (result.from_cache, result.http_status, result.body) == (True, 200, b"")
    assert dict(result.headers)["Content-Length"] == "4"


@pytest.mark.asyncio
async def test_a_response_to_head_is_stored_for_head_alone(site: Site, workers: list[Fetcher]) -> None:
    url = site.serve("/", http_response(headers={"Cache-Control": "max-age=60", "Content-Length": "4"}, length=False))
    results = [await cached_fetch(worker, url, method="HEAD") for worker in workers]
    assert [result.from_cache for result in results] == [False, True]
    site.serve("/", http_response(b"1234", headers={"Cache-Control": "max-age=60"}))
    assert (await cached_fetch(workers[0], url)).body == b"1234"


@pytest.mark.asyncio
async def test_a_response_to_head_that_shows_a_change_removes_the_one_to_get(
    site: Site, workers: list[Fetcher]
) -> None:
    old = {"Cache-Control": "max-age=60, stale-if-error=60", "ETag": '"a"'}
    url = site.serve("/", http_response(b"old", headers=old), http_response(headers={"ETag": '"b"'}))
    await cached_fetch(workers[0], url)
    await cached_fetch(workers[0], url, method="HEAD", headers={"Cache-Control": "no-cache"})
    site.serve("/", http_response(b"new"))
    assert (await cached_fetch(workers[0], url)).body == b"new"


@pytest.mark.asyncio
async def test_a_response_to_head_updates_the_one_to_get(site: Site, workers: list[Fetcher]) -> None:
    old = {"Cache-Control": "max-age=0", "ETag": '"a"', "X-Old": "1"}
    head = {"Cache-Control": "max-age=60", "ETag": '"a"', "Content-Length": "3", "Content-Type": "x/y"}
    url = site.serve("/", http_response(b"old", headers=old), http_response(headers=head, length=False))
    await cached_fetch(workers[0], url)
    await cached_fetch(workers[0], url, method="HEAD")
    result = await cached_fetch(workers[1], url)
    assert (result.body, result.from_cache, result.media_type) == (b"old", True, None)
    assert dict(result.headers)["X-Old"] == "1"


@pytest.mark.asyncio
async def test_a_retry_is_not_answered_with_the_stored_error_that_it_retries(
    site: Site, workers: list[Fetcher]
) -> None:
    error = http_response(b"busy", status=503, headers={"Cache-Control": "max-age=60"})
    url = site.serve("/", error, error, http_response(b"1", headers={"Cache-Control": "max-age=60"}))
    policy = RetryPolicy(max_tries=4, base_s=0.001)
    result = await fetch({"fetcher": workers[0]}, FetchRequest(url=url, retry=policy, cache=True))
    assert (result.body, result.from_cache, len(result.attempts)) == (b"1", False, 3)
    assert (await cached_fetch(workers[1], url)).body == b"1"
    assert len(site.visits) == 3


@pytest.mark.asyncio
async def test_a_retry_is_answered_with_what_another_worker_has_stored_meanwhile(
    site: Site, workers: list[Fetcher]
) -> None:
    async def busy(visit: Visit) -> None:
        await cached_fetch(workers[1], url)
        await visit.send(http_response(status=503))

    fine = http_response(b"1", headers={"Cache-Control": "max-age=60"})
    url = site.serve("/", busy, fine)
    policy = RetryPolicy(max_tries=2, base_s=0.001)
    result = await fetch({"fetcher": workers[0]}, FetchRequest(url=url, retry=policy, cache=True))
    assert (result.body, result.from_cache, len(site.visits)) == (b"1", True, 2)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "poison",
    [
        b"",
        b"\xff" * 20,
        msgspec.msgpack.encode({"type": "Variants", "names": ["x"], "generation": 5}),
        msgspec.msgpack.encode(
            {"type": "Entry", "status": 70, "fields": [], "body": b"", "requested_at_s": 0, "received_at_s": 0}
        ),
        msgspec.msgpack.encode(
            {"type": "Entry", "status": 200, "fields": [], "body": b"", "requested_at_s": 0, "received_at_s": 1e300}
        ),
        msgspec.msgpack.encode(
            {"type": "Entry", "status": 200, "fields": [["a", "b"]], "body": "", "requested_at_s": 0}
        ),
    ],
)
async def test_entries_that_cannot_be_read_are_fetched_again(
    site: Site, workers: list[Fetcher], embedded: EmbeddedRedis, poison: bytes
) -> None:
    url = site.serve("/", http_response(b"1", headers={"Cache-Control": "max-age=60"}))
    redis = embedded.client()
    await cached_fetch(workers[0], url)
    for key in await redis.keys(f"{Keys().cache}*"):
        await redis.set(key, poison)
    results = [await cached_fetch(workers[0], url) for _ in range(2)]
    assert [(result.body, result.from_cache) for result in results] == [(b"1", False), (b"1", True)]
    await redis.aclose()


@pytest.mark.asyncio
async def test_max_bytes_applies_to_stored_responses(site: Site, workers: list[Fetcher]) -> None:
    url = site.serve("/", http_response(b"x" * 1000, headers={"Cache-Control": "max-age=60"}))
    await cached_fetch(workers[0], url)
    assert (await cached_fetch(workers[0], url, max_bytes=10)).status is FetchStatus.TOO_LARGE
    big = site.serve("/big", http_response(b"x" * (MAX_STORED_BYTES + 1), headers={"Cache-Control": "max-age=60"}))
    assert [(await cached_fetch(workers[0], big)).from_cache for _ in range(2)] == [False, False]


@pytest.mark.asyncio
async def test_an_incomplete_response_is_not_stored(site: Site, workers: list[Fetcher]) -> None:
    async def cut(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 9\r\n\r\nhalf")
        visit.reset()

    url = site.serve("/", cut, http_response(b"whole"))
    results = [await cached_fetch(workers[0], url) for _ in range(2)]
    assert [(result.ok, result.from_cache) for result in results] == [(False, False), (True, False)]


@pytest.mark.asyncio
async def test_a_response_that_may_be_cut_is_not_stored(embedded: EmbeddedRedis) -> None:
    async def end(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\nabc")
        visit.writer.transport.abort()

    authority = trustme.CA()
    site = Site(tls=good(authority), host=HOST)
    await site.start()
    url = site.serve("/", end)
    redis = embedded.client()
    async with caching_worker(redis, tls=trust(authority)) as fetcher:
        results = [await cached_fetch(fetcher, url) for _ in range(2)]
    await site.stop()
    await redis.aclose()
    assert [(result.maybe_cut, result.from_cache) for result in results] == [(True, False), (True, False)]


@pytest.mark.asyncio
async def test_without_redis_a_fetch_is_made_each_time(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", http_response(b"1", headers={"Cache-Control": "max-age=60"}))
    results = [await cached_fetch(fetcher, url) for _ in range(2)]
    assert [(result.status, result.from_cache) for result in results] == [(FetchStatus.OK, False)] * 2


@pytest.mark.asyncio
async def test_without_redis_the_cache_fails_and_the_fetch_succeeds(site: Site, own_redis_server: RedisServer) -> None:
    url = site.serve("/", http_response(b"1", headers={"Cache-Control": "max-age=60"}))
    redis: Redis = connect(own_redis_server.url)
    async with caching_worker(redis) as fetcher:
        assert not (await cached_fetch(fetcher, url)).from_cache
        assert (await cached_fetch(fetcher, url)).from_cache
        own_redis_server.stop()
        assert (await cached_fetch(fetcher, url, robots=True)).status is FetchStatus.OK
    await redis.aclose()
