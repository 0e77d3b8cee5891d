"""The listener: bounded, and not impeded by clients that are slow, wrong or many."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import pytest
import pytest_asyncio

from fetchq.command.listen_address import ListenAddress, parse_address
from fetchq_worker.process.http import server as http_server
from fetchq_worker.process.http.client import get, is_abandoned
from fetchq_worker.process.http.messages import Reply, Request
from fetchq_worker.process.http.server import MAX_CONNECTIONS, HttpServer

pytestmark = pytest.mark.asyncio


async def live(request: Request) -> Reply:
    return Reply(HTTPStatus.OK, f"alive within {request.timeout_s}")


LARGE = "x" * (1 << 20)


async def large(_request: Request) -> Reply:
    return Reply(HTTPStatus.OK, LARGE, "text/x")


async def accept(request: Request) -> Reply:
    return Reply(HTTPStatus.OK, request.accept)


@pytest_asyncio.fixture
async def path(tmp_path: Path) -> AsyncIterator[str]:
    """The socket of a listener that answers /livez."""
    path = str(tmp_path / "probes.sock")
    server = HttpServer({"/livez": live, "/large": large, "/accept": accept})
    await server.listen(ListenAddress("", 0, path))
    yield path
    server.close()
    assert not Path(path).exists()


async def exchange(path: str, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /livez HTTP/1.1", 200),
        (b"GET /livez HTTP/1.0", 200),
        (b"GET /livez?timeout_s=x HTTP/1.1", 200),
        (b"GET /metrics HTTP/1.1", 404),
        (b"POST /livez HTTP/1.1", 405),
        (b"GET /livez", 400),
        (b"GET /livez SPDY/3", 400),
        (b"\xff\x00 ? ?", 400),
    ],
)
async def test_each_request_has_its_status(path: str, request_line: bytes, status: int) -> None:
    answer = await exchange(path, request_line + b"\r\nHost: h\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == str(status).encode()
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Connection: close" in head


async def test_the_time_that_the_caller_waits_reaches_the_probe(path: str) -> None:
    assert await get(path, "/livez?timeout_s=0.25", 30) == Reply(HTTPStatus.OK, "alive within 0.25")
    assert (await get(path, "/livez?timeout_s=1e9", 30)).text == f"alive within {http_server.REQUEST_TIMEOUT_S}"


async def test_a_head_that_is_too_long_or_not_sent_ends_the_connection(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await exchange(path, b"GET /livez HTTP/1.1\r\nx: " + b"y" * 100_000) == b""
    monkeypatch.setattr(http_server, "REQUEST_TIMEOUT_S", 0.05)
    assert await exchange(path, b"GET /livez HTTP/1.1\r\n") == b""
    assert (await get(path, "/livez", 30)).status is HTTPStatus.OK


async def test_a_method_that_is_not_answered_is_told_which_are(path: str) -> None:
    assert b"\r\nAllow: GET, HEAD\r\n" in await exchange(path, b"DELETE /livez HTTP/1.1\r\n\r\n")
    assert b"/livez, /large, /accept are answered" in await exchange(path, b"GET / HTTP/1.1\r\n\r\n")


async def test_the_header_accept_reaches_the_handler_as_one(path: str) -> None:
    answer = await exchange(path, b"GET /accept?x=1 HTTP/1.1\r\nACCEPT: a/b;q=0.1\r\nHost: h\r\naccept:\tc/d \r\n\r\n")
    assert answer.endswith(b"\r\n\r\na/b;q=0.1, c/d\n")
    assert (await get(path, "/accept", 30, accept="text/ü")).text == "text/ü"


async def test_a_large_answer_arrives_whole_also_at_a_client_that_reads_slowly(path: str) -> None:
    assert await get(path, "/large", 30) == Reply(HTTPStatus.OK, LARGE, "text/x")
    reader, writer = await asyncio.open_unix_connection(path, limit=1024)
    writer.write(b"GET /large HTTP/1.1\r\n\r\n")
    received = await reader.readuntil(b"\r\n\r\n")
    async with asyncio.timeout(30):
        while data := await reader.read(1024):
            received += data
    assert received.endswith(f"\r\n\r\n{LARGE}\n".encode())
    writer.close()


async def test_a_client_that_does_not_read_a_large_answer_is_cut(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "SEND_TIMEOUT_S", 0.1)
    reader, writer = await asyncio.open_unix_connection(path, limit=1024)
    writer.write(b"GET /large HTTP/1.1\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    async with asyncio.timeout(30):
        while [task for task in asyncio.all_tasks() if task.get_name() == "fetchq-http"]:
            await asyncio.sleep(0.01)
        received = await reader.read()
    assert len(received) < len(LARGE)
    writer.close()


async def test_an_answer_that_was_cut_is_none(tmp_path: Path) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nshort")
        writer.close()

    async with await asyncio.start_unix_server(cut, str(tmp_path / "cut")):
        with pytest.raises(ConnectionError, match="the answer was cut"):
            await get(str(tmp_path / "cut"), "/", 30)


async def test_the_oldest_of_many_idle_connections_make_room_for_a_probe(path: str) -> None:
    idle = [await asyncio.open_unix_connection(path) for _ in range(2 * MAX_CONNECTIONS)]
    async with asyncio.timeout(30):
        assert (await get(path, "/livez", 30)).status is HTTPStatus.OK
        for reader, _ in idle[: MAX_CONNECTIONS + 1]:
            assert await reader.read() == b""
    assert not any(reader.at_eof() for reader, _ in idle[MAX_CONNECTIONS + 1 :]), "the others are not ended"
    for _, writer in idle:
        writer.close()


async def test_head_is_answered_without_a_body(path: str) -> None:
    answer = await exchange(path, b"HEAD /livez HTTP/1.1\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body == b""


async def test_a_listener_that_is_closed_ends_its_connections_without_noise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "probes.sock")
    server = HttpServer({"/livez": live})
    await server.listen(ListenAddress("", 0, path))
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET /livez")
    async with asyncio.timeout(30):
        while not server._serving:
            await asyncio.sleep(0)
        server.close()
        assert await reader.read() == b""
    writer.close()
    assert not caplog.records


async def test_a_path_in_use_is_not_taken_and_one_that_is_abandoned_is(path: str, tmp_path: Path) -> None:
    server = HttpServer({"/livez": live})
    with pytest.raises(FileExistsError):
        await server.listen(ListenAddress("", 0, path))
    left = tmp_path / "left"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    await server.listen(ListenAddress("", 0, str(left)))
    assert (await get(str(left), "/livez", 30)).status is HTTPStatus.OK
    server.close()


@pytest.mark.parametrize(
    ("name", "age_s", "abandoned"),
    [("1-{}.sock", 0, False), ("1-{}.sock", 60, True), ("{}.child", 60, True), ("1-999999999.sock", 0, True)],
)
async def test_a_socket_that_accepts_nothing_is_abandoned_unless_it_may_be_new(
    tmp_path: Path, name: str, age_s: float, abandoned: bool
) -> None:
    left = tmp_path / name.format(os.getpid())
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    made_at = left.stat().st_mtime - age_s
    os.utime(left, (made_at, made_at))
    assert is_abandoned(left) is abandoned


async def test_a_socket_that_is_listened_on_is_not_abandoned(path: str) -> None:
    assert not is_abandoned(Path(path))


@pytest.mark.parametrize(
    ("text", "address", "asked"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464, ""), "127.0.0.1:9464"),
        ("0.0.0.0:9464", ("0.0.0.0", 9464, ""), "127.0.0.1:9464"),
        (":9464", ("", 9464, ""), "127.0.0.1:9464"),
        ("[::]:9464", ("::", 9464, ""), "[::1]:9464"),
        ("localhost:0", ("localhost", 0, ""), "localhost:0"),
        ("/run/fetchq.sock", ("", 0, "/run/fetchq.sock"), "/run/fetchq.sock"),
        ("unix:///run/fetchq.sock", ("", 0, "/run/fetchq.sock"), "/run/fetchq.sock"),
    ],
)
async def test_addresses(text: str, address: tuple[str, int, str], asked: str) -> None:
    parsed = parse_address(text)
    assert parsed == address
    assert str(parsed.to_ask()) == asked
