"""The pool: which idle connection is used, kept and closed."""

from __future__ import annotations

import asyncio

import pytest
from bench.pool import Hosts, count_connections
from tests.support.web.site import Site, Visit, http_response

from fetchq import FetchRequest, FetchStatus, RetryPolicy
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.transport import pool as module
from fetchq_worker.fetch.transport.pool import open_limit

pytestmark = pytest.mark.asyncio

ONCE = RetryPolicy(max_tries=1)


async def test_a_crawl_of_many_hosts_opens_one_connection_to_each() -> None:
    hosts = min(700, open_limit() // 2)  # both ends of a connection are in this process
    made, _ = await count_connections(hosts, 3)
    assert made == hosts


async def test_idle_connections_are_bounded_and_the_least_recently_used_is_closed(fetcher: Fetcher) -> None:
    server = await asyncio.get_running_loop().create_server(Hosts, "0.0.0.0", 0)
    port = server.sockets[0].getsockname()[1]
    fetcher.client.pool.limit = 3

    async def connections_of(*hosts: int) -> int:
        before = Hosts.made
        for host in hosts:
            result = await fetch({"fetcher": fetcher}, FetchRequest(url=f"http://127.0.0.{host}:{port}/", retry=ONCE))
            assert result.ok, result.error
        return Hosts.made - before

    async with server:
        assert await connections_of(1, 2, 3, 1) == 3
        assert await connections_of(4) == 1  # in place of that to host 2
        assert await connections_of(3, 1, 4) == 0
        assert await connections_of(2) == 1
        assert repr(fetcher.client.pool) == "<Pool open=3 idle=3 limit=3>"
        assert await connections_of(*range(10, 200)) == 190
        assert repr(fetcher.client.pool) == "<Pool open=3 idle=3 limit=3>"


async def _until_closed(site: Site) -> None:
    async with asyncio.timeout(5):
        while site.open_connections:
            await asyncio.sleep(0.005)


async def test_an_idle_connection_is_closed_after_a_while(
    site: Site, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_ALIVE_S", 0.05)
    url = site.serve("/", http_response(b"x"))

    await asyncio.gather(*(fetch({"fetcher": fetcher}, FetchRequest(url=url)) for _ in range(3)))

    await _until_closed(site)
    assert repr(fetcher.client.pool).startswith("<Pool open=0 idle=0 ")


async def test_an_idle_connection_that_the_server_closes_leaves_the_pool(site: Site, fetcher: Fetcher) -> None:
    async def close_after(visit: Visit) -> None:
        await visit.send(http_response(b"x"))
        visit.writer.close()

    for _ in range(2):
        await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", close_after), retry=ONCE))
        async with asyncio.timeout(5):
            while not repr(fetcher.client.pool).startswith("<Pool open=0 idle=0 "):
                await asyncio.sleep(0.005)
    assert site.connections == 2


async def test_closing_the_client_fails_the_requests_in_progress(site: Site, fetcher: Fetcher) -> None:
    arrived = [asyncio.Event(), asyncio.Event()]

    async def silent(visit: Visit) -> None:
        arrived[0].set()

    async def until_the_end(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        arrived[1].set()

    urls = [site.serve("/silent", silent), site.serve("/half", until_the_end)]
    fetching = [asyncio.create_task(fetch({"fetcher": fetcher}, FetchRequest(url=url, retry=ONCE))) for url in urls]
    for event in arrived:
        await event.wait()
    async with asyncio.timeout(5):
        while not site.visits[1:]:
            await asyncio.sleep(0.005)
    await fetcher.aclose()

    results = [await task for task in fetching]
    assert results[0].status is FetchStatus.CONNECT_ERROR
    assert results[1].status in (FetchStatus.BAD_RESPONSE, FetchStatus.CONNECT_ERROR)
    assert (await fetch({"fetcher": fetcher}, FetchRequest(url=urls[0], retry=ONCE))).status is (
        FetchStatus.CONNECT_ERROR
    )


async def test_a_response_longer_than_the_buffers_arrives_whole_and_its_connection_is_reused(
    site: Site, fetcher: Fetcher
) -> None:
    body = bytes(range(256)) * 16_384
    url = site.serve("/", http_response(body))

    results = [await fetch({"fetcher": fetcher}, FetchRequest(url=url, max_bytes=len(body))) for _ in range(2)]

    assert [result.body for result in results] == [body] * 2
    assert site.connections == 1


async def test_a_cancelled_fetch_does_not_close_a_connection_that_serves_another(site: Site, fetcher: Fetcher) -> None:
    """The response is complete, so its connection is in the pool before the waiting task runs again."""
    url = site.serve("/", http_response(b"x"))
    connection_of = fetcher.client.pool
    await fetch({"fetcher": fetcher}, FetchRequest(url=url))
    first = asyncio.create_task(fetch({"fetcher": fetcher}, FetchRequest(url=url)))
    async with asyncio.timeout(5):
        while len(site.visits) < 2 or "idle=1" not in repr(connection_of):
            await asyncio.sleep(0)
    second = asyncio.create_task(fetch({"fetcher": fetcher}, FetchRequest(url=url)))
    first.cancel()

    assert (await second).body == b"x"
    await asyncio.gather(first, return_exceptions=True)
    assert site.connections == 1
