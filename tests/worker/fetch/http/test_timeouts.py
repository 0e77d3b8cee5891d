"""The timeouts of an attempt and of its phases."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest
from tests.support.web.site import Site, Visit, http_response

from fetchq import FetchRequest, FetchStatus, RetryPolicy
from fetchq_worker.fetch import Fetcher, fetch

pytestmark = pytest.mark.asyncio

ONCE = RetryPolicy(max_tries=1)


async def _never(visit: Visit) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port whose backlog is full, so that a connection to it is neither made nor refused."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port
        for filler in fillers:
            filler.close()


async def test_a_connection_that_is_not_made_ends_by_connect_timeout(fetcher: Fetcher, deaf_port: int) -> None:
    request = FetchRequest(url=f"http://127.0.0.1:{deaf_port}/", connect_timeout_s=0.2, retry=ONCE)

    result = await fetch({"fetcher": fetcher}, request)

    assert (result.status, result.error) == (FetchStatus.TIMEOUT, "no connection within connect_timeout_s")


async def test_a_response_that_does_not_begin_ends_by_read_timeout(site: Site, fetcher: Fetcher) -> None:
    result = await fetch(
        {"fetcher": fetcher}, FetchRequest(url=site.serve("/", _never), read_timeout_s=0.2, retry=ONCE)
    )

    assert (result.status, result.error) == (FetchStatus.TIMEOUT, "no data was received for read_timeout_s")
    assert result.http_status is None


async def test_a_pause_within_the_body_ends_by_read_timeout(site: Site, fetcher: Fetcher) -> None:
    async def stall(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await asyncio.Event().wait()

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", stall), read_timeout_s=0.2, retry=ONCE))

    assert (result.status, result.http_status) == (FetchStatus.TIMEOUT, 200)
    assert result.error == "no data was received for read_timeout_s"


async def test_a_slow_drip_ends_by_the_timeout_of_the_attempt(site: Site, fetcher: Fetcher) -> None:
    async def drip(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            await visit.send(b".")
            await asyncio.sleep(0.02)

    began = time.monotonic()
    request = FetchRequest(url=site.serve("/", drip), timeout_s=0.3, read_timeout_s=5, retry=ONCE)
    result = await fetch({"fetcher": fetcher}, request)

    assert (result.status, result.error) == (FetchStatus.TIMEOUT, "the attempt took longer than timeout_s")
    assert time.monotonic() - began < 2


async def test_the_timeout_of_the_attempt_includes_redirects(site: Site, fetcher: Fetcher) -> None:
    async def slowly_on(visit: Visit) -> None:
        await asyncio.sleep(0.1)
        await visit.send(http_response(status=302, headers={"Location": "/"}))

    request = FetchRequest(url=site.serve("/", slowly_on), timeout_s=0.35, max_redirects=100, retry=ONCE)
    result = await fetch({"fetcher": fetcher}, request)

    assert result.error == "the attempt took longer than timeout_s"
    assert 1 <= len(result.redirects) <= 3


async def test_a_callers_timeout_is_not_reported_as_the_attempts(site: Site, fetcher: Fetcher) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", _never)))
