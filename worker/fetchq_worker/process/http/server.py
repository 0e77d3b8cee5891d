"""A small HTTP/1.1 listener for probes and scrapes: one GET or HEAD a connection."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from fetchq.command.listen_address import ListenAddress

from .client import is_in_use
from .messages import Handler, Reply, Request

REQUEST_TIMEOUT_S: Final = 5.0
"""Until a request has arrived and its answer is there."""
SEND_TIMEOUT_S: Final = 10.0
"""Until a client has read the answer, which is cut after that."""
MAX_HEAD_BYTES: Final = 8192
MAX_CONNECTIONS: Final = 64


class HttpServer:
    """Answers paths by their `handlers`, on any number of addresses."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers: Final = handlers
        self._servers: list[asyncio.Server] = []
        self._paths: list[str] = []
        self._serving: dict[asyncio.Task[None], StreamWriter] = {}
        """In the order in which they began."""

    async def listen(self, address: ListenAddress) -> None:
        """Raises `OSError`. The path of a socket whose process has ended is taken."""
        if address.path:
            if await is_in_use(address.path):
                raise FileExistsError(f"{address.path} is in use")
            server = await asyncio.start_unix_server(self._accept, address.path, limit=MAX_HEAD_BYTES)
            self._paths.append(address.path)
        else:
            server = await asyncio.start_server(self._accept, address.host or None, address.port, limit=MAX_HEAD_BYTES)
        self._servers.append(server)

    def close(self) -> None:
        for path in self._paths:
            Path(path).unlink(missing_ok=True)
        for server in self._servers:
            server.close()
        for task in self._serving:
            task.cancel()

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        # Not a coroutine: asyncio would log the cancellation of its task.
        if len(self._serving) >= MAX_CONNECTIONS:  # idle ones must not keep a probe from its answer
            oldest = next(iter(self._serving))
            oldest.cancel()
            _end(self._serving.pop(oldest))  # its task ends it only if it has begun
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="fetchq-http")
        self._serving[task] = writer
        task.add_done_callback(lambda task: self._serving.pop(task, None))

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                reply = await self._answer(head.decode("latin-1").split("\r\n"))
            writer.transport.set_write_buffer_limits(high=0)  # so that `drain` waits until all of it is sent
            writer.write(_encoded(reply, with_body=not head.startswith(b"HEAD ")))
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await writer.drain()
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass  # the client is slow, has ended or sends too much
        finally:
            _end(writer)

    async def _answer(self, head: list[str]) -> Reply:
        words = head[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return Reply(HTTPStatus.BAD_REQUEST, "not HTTP/1.1")
        if words[0] not in ("GET", "HEAD"):
            return Reply(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD are answered")
        path, _, query = words[1].partition("?")
        handler = self._handlers.get(path)
        if handler is None:
            return Reply(HTTPStatus.NOT_FOUND, f"{', '.join(self._handlers)} are answered")
        return await handler(Request(_timeout_in(query), _header(head, "accept")))


def _end(writer: StreamWriter) -> None:
    """Ends a connection, without waiting for a client that does not read."""
    if writer.transport.get_write_buffer_size():
        writer.transport.abort()
    else:
        writer.close()


def _header(head: list[str], name: str) -> str:
    """The values of a header, as one (RFC 9110, section 5.3)."""
    fields = (line.partition(":") for line in head[1:])
    return ", ".join(value.strip() for field, _, value in fields if field.lower() == name)


def _timeout_in(query: str) -> float | None:
    try:
        return max(0.0, min(float(parse_qs(query)["timeout_s"][0]), REQUEST_TIMEOUT_S))
    except (KeyError, ValueError):
        return None


def _encoded(reply: Reply, *, with_body: bool) -> bytes:
    body = f"{reply.text}\n".encode("utf-8", "replace")
    lines = [
        f"HTTP/1.1 {reply.status.value} {reply.status.phrase}",
        f"Content-Type: {reply.content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if reply.status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    return "\r\n".join([*lines, "", ""]).encode() + (body if with_body else b"")
