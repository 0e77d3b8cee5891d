"""A real HTTP server on loopback whose responses each test sets, byte by byte if needed."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Handler = Callable[["Visit"], Awaitable[None]]


@dataclass
class Visit:
    """One request that reached the site, and the means to respond to it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    writer: asyncio.StreamWriter
    half_closed: bool = False

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def half_close(self) -> None:
        """Ends the server's side, and waits until the client closes its own."""
        self.writer.write_eof()
        self.half_closed = True

    def reset(self) -> None:
        """Ends the connection by a reset: with a linger time of 0, closing sends RST in place of FIN."""
        connection = self.writer.get_extra_info("socket")
        if connection is not None:  # None if the client has ended it
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def http_response(
    body: bytes = b"", *, status: int = 200, headers: dict[str, str] | None = None, length: bool = True
) -> bytes:
    """The bytes of a well-formed response."""
    lines = [f"HTTP/1.1 {status} Whatever"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@dataclass
class Site:
    """`site.serve(path, ...)` sets the responses of a path; `site.visits` lists all requests, in order."""

    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    visits: list[Visit] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0

    def __post_init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def url(self, path: str = "/", host: str | None = None) -> str:
        return f"{'https' if self.tls else 'http'}://{host or self.host}:{self.port}{path}"

    def serve(self, path: str, *answers: bytes | Handler) -> str:
        """Sets the responses of a path, of which the last is repeated; returns its URL."""
        left = list(answers)

        async def handle(visit: Visit) -> None:
            now = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(now, bytes):
                await visit.send(now)
            else:
                await now(visit)

        self._handlers[path] = handle
        return self.url(path)

    def serve_json(self, path: str, value: object) -> str:
        return self.serve(path, http_response(json.dumps(value).encode(), headers={"Content-Type": "application/json"}))

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._converse(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        try:
            while not writer.is_closing():
                visit = await self._read(reader, writer)
                self.visits.append(visit)
                path = visit.target.partition("?")[0]
                handler = self._handlers.get(path)
                if handler is None:
                    await visit.send(http_response(b"nothing here", status=404))
                else:
                    await handler(visit)
                if visit.half_closed:
                    await reader.read()
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client closed the connection
        finally:
            self.open_connections -= 1
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Visit:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        method, target, _ = first.split(" ")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        body = await reader.readexactly(length)
        return Visit(method, target, headers, body, writer)
