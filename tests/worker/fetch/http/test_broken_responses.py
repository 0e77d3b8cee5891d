"""Servers that violate HTTP: the outcome, the time it takes, and whether the connection is reused. The table is
`tests.support.web.broken_responses`."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.support.web.broken_responses import TABLES, Broken
from tests.support.web.site import Site, Visit, http_response

from fetchq import FetchRequest, FetchStatus, RetryPolicy
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.transport.connection import MAX_INTERIM_RESPONSES

pytestmark = pytest.mark.asyncio

ONCE = RetryPolicy(max_tries=1)
CASES = [pytest.param(case, id=f"{table}: {case.name}") for table, cases in TABLES.items() for case in cases]


@pytest.mark.parametrize("case", CASES)
async def test_a_broken_response_has_its_outcome_and_closes_its_connection(
    site: Site, fetcher: Fetcher, case: Broken
) -> None:
    url = site.serve("/broken", case.handler())
    good = site.serve("/good", http_response(b"good"))
    request = FetchRequest(url=url, method=case.method, read_timeout_s=0.3, timeout_s=5, retry=ONCE)

    began = time.monotonic()
    result = await fetch({"fetcher": fetcher}, request)
    took_s = time.monotonic() - began
    following = await fetch({"fetcher": fetcher}, FetchRequest(url=good, retry=ONCE, timeout_s=5))

    assert (result.status, result.body) == (case.status, case.body), result.error
    assert took_s < 3
    assert following.body == b"good"
    assert site.connections == (1 if case.reusable else 2)


async def test_an_unsolicited_response_is_not_used_for_the_next_request(site: Site, fetcher: Fetcher) -> None:
    async def twice(visit: Visit) -> None:
        await visit.send(http_response(b"first"))
        await asyncio.sleep(0.05)  # the client has returned the connection to its pool
        await visit.send(http_response(b"poison"))

    first = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", twice)))
    async with asyncio.timeout(5):
        while site.open_connections:
            await asyncio.sleep(0.01)
    second = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/other", http_response(b"second"))))

    assert (first.body, second.body) == (b"first", b"second")
    assert site.connections == 2


async def test_a_malformed_body_ends_the_fetch_at_once(site: Site, fetcher: Fetcher) -> None:
    async def broken_later(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.sleep(0.05)
        await visit.send(b"zz\r\n")

    began = time.monotonic()
    result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", broken_later), retry=ONCE))

    assert result.status is FetchStatus.BAD_RESPONSE
    assert time.monotonic() - began < 3


async def _drip(visit: Visit, data: bytes) -> None:
    """Sends byte after byte, with pauses shorter than the read timeout."""
    for position in range(len(data)):
        await visit.send(data[position : position + 1])
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "dripped",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"." * 9000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;" + b"." * 9000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X-A: b\r\n" * 1000,
        b"HTTP/1.1 102 Processing\r\n\r\n" * 1000,
    ],
    ids=["the head", "the body", "a chunk's extension", "the trailers", "interim answers"],
)
async def test_an_endless_drip_ends_by_the_timeout_of_the_attempt(site: Site, fetcher: Fetcher, dripped: bytes) -> None:
    async def answer_slowly(visit: Visit) -> None:
        await _drip(visit, dripped)

    began = time.monotonic()
    request = FetchRequest(url=site.serve("/", answer_slowly), timeout_s=0.4, read_timeout_s=0.3, retry=ONCE)
    result = await fetch({"fetcher": fetcher}, request)

    assert (result.status, result.error) == (FetchStatus.TIMEOUT, "the attempt took longer than timeout_s")
    assert time.monotonic() - began < 3


async def test_a_few_interim_responses_are_skipped_and_a_flood_is_refused(site: Site, fetcher: Fetcher) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    some = site.serve("/some", hint * MAX_INTERIM_RESPONSES + http_response(b"body"))
    flood = site.serve("/flood", hint * (MAX_INTERIM_RESPONSES + 1) + http_response(b"body"))

    results = [await fetch({"fetcher": fetcher}, FetchRequest(url=url, retry=ONCE)) for url in (some, flood)]

    assert [result.status for result in results] == [FetchStatus.OK, FetchStatus.BAD_RESPONSE]
    assert results[1].error == f"more than {MAX_INTERIM_RESPONSES} interim responses"


async def test_a_response_before_the_request_body_was_sent_counts(site: Site, fetcher: Fetcher) -> None:
    writers = []

    def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(http_response(b"too much", status=413, headers={"Connection": "close"}))
        writer.write_eof()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        request = FetchRequest(url=url, method="POST", body=bytes(1 << 20), retry=ONCE, timeout_s=5)
        result = await fetch({"fetcher": fetcher}, request)
        for writer in writers:
            writer.close()

    assert (result.status, result.http_status, result.body) == (FetchStatus.HTTP_ERROR, 413, b"too much")


async def test_an_obsolete_fold_becomes_a_space(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", http_response(b"", headers={"X-A": "one\r\n\ttwo"}))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url))

    assert dict(result.headers)["X-A"].split() == ["one", "two"]


async def test_a_location_cannot_split_the_next_request(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", http_response(status=302, headers={"Location": "/x%0d%0aX-Evil:%20y?\tz"}))

    await fetch({"fetcher": fetcher}, FetchRequest(url=url))

    assert site.visits[1].target == "/x%0d%0aX-Evil:%20y?z"
    assert site.visits[1].header("X-Evil") is None
