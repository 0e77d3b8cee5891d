"""A TCP proxy between the workers and Redis that injects network faults."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Self

CHUNK_BYTES: Final = 64 << 10


class Proxy:
    """Forwards bytes in both directions, with bounded buffers, until a fault is injected."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._gates: set[asyncio.Event] = set()
        self._half = 0
        self.delay_s = 0.0
        """The delay of each chunk."""
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*self._handlers)

    def cut(self) -> int:
        """Breaks every connection. Returns how many there were."""
        count = len(self._links)
        for link in tuple(self._links):
            link.transport.abort()
        return count

    def cut_in_the_middle(self, replies: int) -> None:
        """Forwards half of each of the next `replies` replies, and breaks its connection there."""
        self._half = replies

    def hold(self) -> None:
        """Drops all bytes without an error, as a network that drops packets."""
        self._open.clear()

    def hold_established(self) -> None:
        """The same for existing connections only, as after a router lost its connection table."""
        for gate in self._gates:
            gate.clear()

    def release(self) -> None:
        self._open.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        self._links |= pair
        gate = asyncio.Event()
        gate.set()
        self._gates.add(gate)
        tasks = {
            asyncio.create_task(self._pass(reader, far_writer, gate, replies=False)),
            asyncio.create_task(self._pass(far_reader, writer, gate, replies=True)),
        }
        self._tasks |= tasks
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for link in pair:
                link.transport.abort()
            gate.set()
            self._gates.discard(gate)
            await asyncio.wait(tasks)
            self._tasks -= tasks
            self._links -= pair

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event, *, replies: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._open.wait()
                await gate.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if replies and self._half > 0 and len(data) > 1:
                    self._half -= 1
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    return
                writer.write(data)
                await writer.drain()
