"""Unsafe requests invalidate stored responses (RFC 9111, section 4.4)."""

from __future__ import annotations

import pytest
from tests.support.web.caching import ONCE, cached_fetch
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest
from fetchq_worker.fetch import Fetcher, fetch


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "M-SEARCH"])
async def test_an_unsafe_request_invalidates_the_stored_response(
    site: Site, workers: list[Fetcher], method: str
) -> None:
    fresh = {"Cache-Control": "max-age=60"}
    url = site.serve("/", http_response(b"old", headers=fresh))
    await cached_fetch(workers[0], url)
    await cached_fetch(workers[0], url, method="HEAD")
    await fetch({"fetcher": workers[1]}, FetchRequest(url=url, method=method, body=b"x"))
    assert [(await cached_fetch(workers[0], url, method=asked)).from_cache for asked in ("HEAD", "GET")] == [
        False,
        False,
    ]


@pytest.mark.asyncio
async def test_an_unsafe_request_that_fails_invalidates_nothing(site: Site, workers: list[Fetcher]) -> None:
    fresh = {"Cache-Control": "max-age=60"}
    url = site.serve("/", http_response(b"old", headers=fresh), http_response(status=500))
    await cached_fetch(workers[0], url)
    await fetch({"fetcher": workers[0]}, FetchRequest(url=url, method="POST", retry=ONCE))
    assert (await cached_fetch(workers[0], url)).from_cache


@pytest.mark.asyncio
async def test_an_unsafe_request_invalidates_what_its_locations_name(site: Site, workers: list[Fetcher]) -> None:
    fresh = http_response(headers={"Cache-Control": "max-age=60"})
    urls = [site.serve(path, fresh) for path in ("/list", "/item", "/other")]
    for url in urls:
        await cached_fetch(workers[0], url)
    made = http_response(status=201, headers={"Location": "/item", "Content-Location": "/list"})
    await fetch({"fetcher": workers[0]}, FetchRequest(url=site.serve("/new", made), method="POST"))
    assert [(await cached_fetch(workers[0], url)).from_cache for url in urls] == [False, False, True]


@pytest.mark.asyncio
async def test_invalidated_variants_do_not_come_back(site: Site, workers: list[Fetcher]) -> None:
    vary = {"Cache-Control": "max-age=60", "Vary": "Accept"}
    url = site.serve("/", http_response(b"old", headers=vary))
    for accept in ("a", "b"):
        await cached_fetch(workers[0], url, headers={"Accept": accept})
    await fetch({"fetcher": workers[0]}, FetchRequest(url=url, method="DELETE"))
    site.serve("/", http_response(b"new", headers=vary))
    assert [(await cached_fetch(workers[0], url, headers={"Accept": accept})).body for accept in "ab"] == [
        b"new",
        b"new",
    ]
