"""A small HTTP/1.1 listener for probes: one GET or HEAD a connection, and short text as the answer."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qs

from fetchq.command.listen_address import ListenAddress

REQUEST_TIMEOUT_S: Final = 5.0
MAX_HEAD_BYTES: Final = 8192
MAX_CONNECTIONS: Final = 64
LISTENING_S: Final = 5.0
"""Maximum time between the creation of a socket's file and the moment from which it accepts connections."""


class Reply(NamedTuple):
    """The answer of a probe."""

    status: HTTPStatus
    text: str
    """One line."""


Probe = Callable[[float | None], Awaitable[Reply]]
"""Answers one path. Its argument is the time that the caller waits, where the query says it: `?timeout_s=0.9`."""


class HealthServer:
    """Answers `probes` by their paths, on any number of addresses."""

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._probes: Final = probes
        self._servers: list[asyncio.Server] = []
        self._paths: list[str] = []
        self._serving: dict[asyncio.Task[None], StreamWriter] = {}
        """In the order in which they began."""

    async def listen(self, address: ListenAddress) -> None:
        """Raises `OSError`. The path of a socket whose process has ended is taken."""
        if address.path:
            if await _is_in_use(address.path):
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
            self._serving.pop(oldest).close()  # its task closes it only if it has begun
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="fetchq-probe")
        self._serving[task] = writer
        task.add_done_callback(lambda task: self._serving.pop(task, None))

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                status, text = await self._answer(head)
                writer.write(_encoded(status, text, with_body=not head.startswith(b"HEAD ")))
                await writer.drain()
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass  # the client is slow, has ended or sends too much
        finally:
            writer.close()

    async def _answer(self, head: bytes) -> Reply:
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return Reply(HTTPStatus.BAD_REQUEST, "not HTTP/1.1")
        if words[0] not in ("GET", "HEAD"):
            return Reply(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD are answered")
        path, _, query = words[1].partition("?")
        probe = self._probes.get(path)
        if probe is None:
            return Reply(HTTPStatus.NOT_FOUND, f"{', '.join(self._probes)} are answered")
        return await probe(_timeout_in(query))


def _timeout_in(query: str) -> float | None:
    try:
        return max(0.0, min(float(parse_qs(query)["timeout_s"][0]), REQUEST_TIMEOUT_S))
    except (KeyError, ValueError):
        return None


def _encoded(status: HTTPStatus, text: str, *, with_body: bool) -> bytes:
    body = f"{text}\n".encode("utf-8", "replace")
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
    head = f"{head}Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    return head.encode() + (body if with_body else b"")


async def get(path: str, target: str, timeout_s: float) -> Reply:
    """Asks a listener on a unix socket. Raises `OSError`, also for no answer within `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_unix_connection(path, limit=MAX_HEAD_BYTES)
        try:
            writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        finally:
            writer.close()
    try:
        return Reply(HTTPStatus(int(head.split(b" ", 2)[1])), body.decode("utf-8", "replace").strip())
    except (IndexError, ValueError) as problem:
        raise ConnectionError("no answer") from problem


async def _is_in_use(path: str) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    writer.close()
    return True


def is_abandoned(path: Path) -> bool:
    """Whether the process that made the socket, named `PID.child` or `...-PID.sock`, has ended without removing it."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return not _may_be_new(path)
        except OSError:  # many connections wait already
            return False
    return False


def _may_be_new(path: Path) -> bool:
    """Whether the socket may have been made just now, and its process is about to listen on it."""
    try:
        os.kill(int(path.stem.rpartition("-")[2]), 0)
        return time.time() - path.stat().st_mtime < LISTENING_S
    except (ValueError, OSError):  # of another user's process too, which has the id of one that has ended
        return False
