"""The listener of the probes: bounded, and unimpressed by clients that are slow, wrong or many."""

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
from fetchq_worker.process import health_server
from fetchq_worker.process.health_server import MAX_CONNECTIONS, HealthServer, Reply, get, is_abandoned

pytestmark = pytest.mark.asyncio


async def live(timeout_s: float | None) -> Reply:
    return Reply(HTTPStatus.OK, f"alive within {timeout_s}")


@pytest_asyncio.fixture
async def path(tmp_path: Path) -> AsyncIterator[str]:
    """The socket of a listener that answers /livez."""
    path = str(tmp_path / "probes.sock")
    server = HealthServer({"/livez": live})
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
    assert await get(path, "/livez?timeout_s=0.25", 30) == (HTTPStatus.OK, "alive within 0.25")
    assert (await get(path, "/livez?timeout_s=1e9", 30)).text == f"alive within {health_server.REQUEST_TIMEOUT_S}"


async def test_a_head_that_is_too_long_or_not_sent_ends_the_connection(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await exchange(path, b"GET /livez HTTP/1.1\r\nx: " + b"y" * 100_000) == b""
    monkeypatch.setattr(health_server, "REQUEST_TIMEOUT_S", 0.05)
    assert await exchange(path, b"GET /livez HTTP/1.1\r\n") == b""
    assert (await get(path, "/livez", 30)).status is HTTPStatus.OK


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
    server = HealthServer({"/livez": live})
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
    server = HealthServer({"/livez": live})
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
