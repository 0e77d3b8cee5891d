"""Validators of a copy that the client has (RFC 9110, section 13.1): `etag` and `last_modified`."""

from __future__ import annotations

import pytest
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest, FetchStatus
from fetchq_worker.fetch import Fetcher, fetch

pytestmark = pytest.mark.asyncio

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
NOT_MODIFIED = http_response(status=304, headers={"ETag": '"b"'}, length=False)


async def test_a_current_copy_is_not_modified_and_has_no_body(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", NOT_MODIFIED)

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, etag='W/"a"', last_modified=DATE))

    assert (result.status, result.http_status, result.body, result.ok) == (FetchStatus.NOT_MODIFIED, 304, b"", True)
    assert site.visits[0].header("If-None-Match") == 'W/"a"'
    assert site.visits[0].header("If-Modified-Since") == DATE


async def test_a_changed_copy_is_fetched(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", http_response(b"new", headers={"ETag": '"c"'}))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, etag='"a"'))

    assert (result.status, result.body) == (FetchStatus.OK, b"new")
    assert site.visits[0].header("If-Modified-Since") is None


async def test_an_unsolicited_304_is_an_http_error(site: Site, fetcher: Fetcher) -> None:
    result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", NOT_MODIFIED)))

    assert (result.status, result.http_status) == (FetchStatus.HTTP_ERROR, 304)


async def test_validators_are_sent_with_redirects(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", http_response(status=301, headers={"Location": "/there"}))
    site.serve("/there", NOT_MODIFIED)

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, etag='"a"'))

    assert (result.status, result.final_url) == (FetchStatus.NOT_MODIFIED, site.url("/there"))
    assert site.visits[1].header("If-None-Match") == '"a"'


async def test_an_etag_that_is_not_ascii_is_sent_as_it_came(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", http_response(b"", headers={"ETag": '"\xe9\x80"'}), NOT_MODIFIED)

    first = await fetch({"fetcher": fetcher}, FetchRequest(url=url))
    etag = dict(first.headers)["ETag"]
    second = await fetch({"fetcher": fetcher}, FetchRequest(url=url, etag=etag))

    assert second.status is FetchStatus.NOT_MODIFIED
    assert site.visits[1].header("If-None-Match") == etag == '"\xe9\x80"'
