"""What a client can take of the gateway: slow, silent and malformed ones."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tests.support.running import wait_until

from fetchq_gateway import server as limits
from fetchq_gateway.server import GatewayServer

pytestmark = pytest.mark.asyncio

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
BIG = 32 << 20


@asynccontextmanager
async def _served(app: Starlette) -> AsyncIterator[tuple[GatewayServer, int]]:
    """The server, and the port at which it serves the app."""
    server = GatewayServer(app)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        main = asyncio.create_task(server.serve([listener]))
        await wait_until(lambda: server.started)
        try:
            yield server, listener.getsockname()[1]
        finally:
            server.should_exit = True
            await main


async def _hello(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello\n")


async def _big(_request: Request) -> PlainTextResponse:
    return PlainTextResponse(b"x" * BIG)


APP = Starlette(routes=[Route("/", _hello), Route("/big", _big)])


async def _answer_to(port: int, sent: bytes) -> bytes:
    """Everything that the server sends until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        return await asyncio.wait_for(reader.read(-1), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET /", GET, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 1000])
async def test_a_client_that_does_not_finish_its_request_loses_its_connection(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REQUEST_TIMEOUT_S", 0.2)
    async with _served(APP) as (server, port):
        assert await _answer_to(port, sent) == b""
        assert not server.server_state.connections


async def test_a_connection_that_is_idle_after_an_answer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_TIMEOUT_S", 0.3)
    async with _served(APP) as (_, port):
        answer = await _answer_to(port, GET + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"hello\n")


async def test_a_client_that_does_not_read_its_answer_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_TIMEOUT_S", 0.2)
    async with _served(APP) as (server, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await wait_until(lambda: bool(server.server_state.total_requests))
        await wait_until(lambda: not server.server_state.connections)
        writer.close()


async def test_an_answer_that_takes_long_keeps_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_TIMEOUT_S", 0.05)
    finish = asyncio.Event()

    async def slow(_request: Request) -> PlainTextResponse:
        await finish.wait()
        return PlainTextResponse("late\n")

    async with _served(Starlette(routes=[Route("/", slow)])) as (_, port):
        waiting = asyncio.create_task(_answer_to(port, GET + b"\r\n"))
        asyncio.get_running_loop().call_later(0.3, finish.set)
        assert (await waiting).endswith(b"late\n")


async def test_a_body_is_not_read() -> None:
    async with _served(APP) as (server, port):
        answer = await _answer_to(port, GET + b"Content-Length: 1000000000\r\n\r\n" + b"x" * 1000)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert not server.server_state.connections


@pytest.mark.parametrize(
    "sent", [b"what?\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", GET + b"X: " + b"a" * limits.MAX_HEAD_BYTES]
)
async def test_a_malformed_or_huge_head_is_answered_400_without_a_log_line(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with _served(APP) as (_, port):
        assert (await _answer_to(port, sent)).startswith(b"HTTP/1.1 400 ")
    assert caplog.records == []


async def test_one_connection_too_many_is_closed_and_the_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 1)
    async with _served(APP) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await wait_until(lambda: len(server.server_state.connections) == 1)
        assert await _answer_to(port, GET + b"\r\n") == b""
        writer.write(GET + b"Connection: close\r\n\r\n")
        assert (await reader.read(-1)).endswith(b"hello\n")
        writer.close()
