"""After every kind of end, a fetch's connection is pooled or closed, and no task or socket leaks."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import zlib
from collections.abc import Awaitable, Callable

import pytest
from tests.support.web.site import Site, Visit, http_response

from fetchq import FetchRequest, FetchStatus, RetryPolicy
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.http.client import HttpClient
from fetchq_worker.fetch.http.phases import Phases
from fetchq_worker.fetch.transport.connector import Address

pytestmark = pytest.mark.asyncio

ONCE = RetryPolicy(max_tries=1)


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the count alone is of interest


async def _until(holds: Callable[[], bool]) -> None:
    """Waits until the server has noticed the end of the connection."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


async def _head(visit: Visit) -> None:
    await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


async def _nothing(visit: Visit) -> None:
    pass


@pytest.mark.parametrize("until", [_nothing, _head], ids=["waiting for the head", "reading the body"])
async def test_a_cancelled_attempt_closes_its_connection(
    site: Site, fetcher: Fetcher, until: Callable[[Visit], Awaitable[None]]
) -> None:
    arrived = asyncio.Event()

    async def stall(visit: Visit) -> None:
        await until(visit)
        arrived.set()

    before = asyncio.all_tasks()
    fetching = asyncio.create_task(fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", stall))))
    await arrived.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching

    await _until(lambda: site.open_connections == 0)
    await _until(lambda: asyncio.all_tasks() <= before | {fetching})


async def test_an_attempt_cancelled_while_connecting_leaves_no_socket(fetcher: Fetcher) -> None:
    await fetch(
        {"fetcher": fetcher}, FetchRequest(url="http://no-such-name.invalid/", retry=ONCE)
    )  # opens the sockets of c-ares
    before = _open_files()

    for _ in range(20):
        fetching = asyncio.create_task(fetch({"fetcher": fetcher}, FetchRequest(url="http://127.0.0.1:1/")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        fetching.cancel()
        await asyncio.wait([fetching])

    await _until(lambda: _open_files() <= before)


async def test_a_body_over_the_limit_closes_its_connection(site: Site, fetcher: Fetcher) -> None:
    async def endless(visit: Visit) -> None:
        await visit.send(http_response(length=False))
        while not visit.writer.is_closing():
            await visit.send(b"x" * 10_000)

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", endless), max_bytes=50_000))

    assert result.status is FetchStatus.TOO_LARGE
    await _until(lambda: site.open_connections == 0)


@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_a_slow_body_over_the_limit_ends_before_the_timeouts(site: Site, fetcher: Fetcher, coding: str) -> None:
    pump = zlib.compressobj(wbits=31)

    async def drip(visit: Visit) -> None:
        await visit.send(http_response(length=False, headers={"Content-Encoding": coding}))
        while not visit.writer.is_closing():
            data = b"x" * 300
            await visit.send(pump.compress(data) + pump.flush(zlib.Z_SYNC_FLUSH) if coding == "gzip" else data)
            await asyncio.sleep(0.001)

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", drip), max_bytes=1000, timeout_s=10))

    assert result.status is FetchStatus.TOO_LARGE
    await _until(lambda: site.open_connections == 0)


async def test_closing_the_client_closes_every_connection(site: Site) -> None:
    async with Fetcher(user_agent="x", allow_net=("127.0.0.0/8",)) as fetcher:
        url = site.serve("/", http_response())
        await asyncio.gather(*(fetch({"fetcher": fetcher}, FetchRequest(url=url)) for _ in range(10)))
        assert site.open_connections > 0

    await _until(lambda: site.open_connections == 0)


async def test_open_connections_are_bounded_and_the_least_recently_used_idle_one_is_closed(fetcher: Fetcher) -> None:
    everywhere = Site()
    everywhere.serve("/", http_response())
    server = await asyncio.start_server(everywhere._connected, "0.0.0.0", 0)
    urls = [f"http://127.0.0.{n}:{server.sockets[0].getsockname()[1]}/" for n in range(1, 7)]
    fetcher.client.pool.limit = 5

    async def visit(url: str) -> int:
        """The number of connections that were opened for a fetch."""
        before = everywhere.connections
        result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, retry=ONCE))
        assert result.status is FetchStatus.OK
        return everywhere.connections - before

    try:
        for url in urls[:5]:
            assert await visit(url) == 1
        assert await visit(urls[0]) == 0
        assert await visit(urls[5]) == 1, "in place of the one to the second host"
        assert [await visit(url) for url in (urls[0], *urls[2:])] == [0] * 5
        await _until(lambda: everywhere.open_connections == 5)
        assert await visit(urls[1]) == 1
    finally:
        server.close()
        await fetcher.aclose()
        await _until(lambda: everywhere.open_connections == 0)
        await server.wait_closed()


async def test_two_hundred_hostile_responses_leak_nothing(site: Site, fetcher: Fetcher) -> None:
    rng = random.Random(7)
    good = http_response(b"x" * 300, headers={"Content-Encoding": "identity", "Content-Type": "text/plain"})
    urls = [site.serve(f"/{n}", _hostile(rng, good)) for n in range(200)]
    for url in urls[:20]:
        await fetch({"fetcher": fetcher}, FetchRequest(url=url, timeout_s=1, retry=ONCE))
    gc.collect()
    await _until(lambda: site.open_connections <= 1)
    tasks, files = len(asyncio.all_tasks()), _open_files()

    limit = asyncio.Semaphore(20)

    async def one(url: str) -> FetchStatus:
        async with limit:
            request = FetchRequest(url=url, timeout_s=1, read_timeout_s=0.2, max_bytes=10_000, retry=ONCE)
            return (await fetch({"fetcher": fetcher}, request)).status

    statuses = await asyncio.gather(*(one(url) for url in urls))

    assert FetchStatus.INTERNAL_ERROR not in statuses
    assert {FetchStatus.BAD_RESPONSE, FetchStatus.TIMEOUT, FetchStatus.CONNECT_ERROR} <= set(statuses)
    await fetcher.aclose()
    await _until(lambda: site.open_connections == 0)
    gc.collect()
    assert len(asyncio.all_tasks()) <= tasks
    await _until(lambda: _open_files() <= files + 1)


def _hostile(rng: random.Random, good: bytes) -> Callable[[Visit], Awaitable[None]]:
    """A faulty response: bytes changed, cut, doubled, or delayed, then a pause or the end of the connection."""
    data = bytearray(good)
    for _ in range(rng.randrange(0, 6)):
        data[rng.randrange(len(data) if rng.random() < 0.3 else 90)] = rng.randrange(256)
    cut = rng.choice([0, rng.randrange(len(data)), len(data), len(data)])
    sent = bytes(data[:cut]) * rng.choice([1, 1, 3])
    ending = rng.choice(["close", "abort", "silence", "go on"])

    async def handle(visit: Visit) -> None:
        await visit.send(sent)
        if ending == "close":
            visit.writer.close()
        elif ending == "abort":
            visit.writer.transport.abort()
        elif ending == "go on":
            for _ in range(20):
                await visit.send(b"\xff" * 1000)
            visit.writer.close()

    return handle


@pytest.mark.parametrize(
    ("cancelled", "size"),
    [(False, 1 << 20), (False, 50_000), (True, 1 << 20)],
    ids=["responded", "responded, within the buffer", "cancelled"],
)
async def test_a_request_that_the_server_does_not_read_leaves_no_connection(
    monkeypatch: pytest.MonkeyPatch, cancelled: bool, size: int
) -> None:
    """Closing waits until the buffered data is sent, here without end."""

    open_socket = HttpClient._open_socket

    def open_narrow_socket(client: HttpClient, phases: Phases, address: Address) -> socket.socket:
        connection = open_socket(client, phases, address)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return connection

    monkeypatch.setattr(HttpClient, "_open_socket", open_narrow_socket)
    fetcher = Fetcher(user_agent="test/1", allow_net=("127.0.0.1/32",))
    asked, ended = asyncio.Event(), asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        asked.set()
        if not cancelled:
            writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        await ended.wait()
        writer.transport.abort()

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(refuse, sock=listener)
    before = _open_files()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    request = FetchRequest(url=url, method="POST", body=bytes(size), read_timeout_s=0.05, retry=ONCE)
    fetching = asyncio.create_task(fetch({"fetcher": fetcher}, request))
    try:
        await asked.wait()
        if cancelled:
            await asyncio.sleep(0.1)  # longer than read_timeout_s, which begins when the request is sent
            assert not fetching.done()
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching
        else:
            assert (await fetching).http_status == 413
        await _until(lambda: _open_files() == before + 1)  # the server's own side
    finally:
        ended.set()
        server.close()
        await fetcher.aclose()
