"""A response whose head has arrived, and whose body is still to be read."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from .head import Head

PAUSE_BYTES: Final = 256 << 10
"""The connection is not read while so much of the body is unread."""


class Source(Protocol):
    """The connection on which a body arrives."""

    loop: asyncio.AbstractEventLoop

    def abort(self) -> None: ...

    def resume_reading(self) -> None: ...


class Response:
    """The head, and the body without its transfer coding. `release` gives the connection back."""

    __slots__ = (
        "_chunks",
        "_connection",
        "_enough",
        "_problem",
        "_unread",
        "_waiter",
        "arrived",
        "content_length",
        "headers",
        "maybe_cut",
        "method",
        "status",
    )

    def __init__(
        self, method: str, head: Head, content_length: int | None, connection: Source | None, body: bytes | None = None
    ) -> None:
        """`body` is that of a response that has arrived completely; it has no connection any more."""
        self.method = method
        self.status = head.status
        self.headers = head.headers
        self.content_length = content_length
        """Of the body; None if it is not known yet."""
        self.arrived = body is not None
        """Whether the body has arrived completely, read or not."""
        self.maybe_cut = False
        """Whether the body may lack its end: it lasted until the connection ended, and TLS did not confirm that end
        (RFC 9112, section 9.8)."""
        self._connection = connection
        self._chunks = [body] if body else []
        self._unread = len(body) if body else 0
        self._problem: Exception | None = None
        self._enough = 1
        """How many unread bytes wake the reader that waits."""
        self._waiter: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Response {self.status} to {self.method}, {'' if self.arrived else 'not '}complete>"

    def take(self) -> bytes:
        """The rest of a body that has arrived."""
        chunks = self._chunks
        self._chunks, self._unread = [], 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def at_eof(self) -> bool:
        """Whether the body has arrived and is read."""
        return self.arrived and not self._unread

    async def readany(self, enough: int = 1) -> bytes:
        """The next part of the body, of at least `enough` bytes or the last; nothing at its end.

        Raises `BodyBroken`, `HeadTooLarge` (by trailer fields) and `ReadTimedOut`.
        """
        enough = self._enough = min(enough, PAUSE_BYTES)
        while not (self.arrived or self._problem or self._unread >= enough):
            if self._connection is None:
                return b""  # released
            self._waiter = self._connection.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._problem is not None:
            raise self._problem
        body = self.take()
        if self._connection is not None:
            self._connection.resume_reading()
        return body

    def release(self) -> None:
        """Closes the connection if the body has not arrived. Otherwise it is back in the pool already."""
        connection = self._connection
        if connection is not None:
            self._connection = None
            connection.abort()

    # The connection's side.

    def feed(self, data: bytes) -> bool:
        """Adds a part of the body. Whether the connection is to pause."""
        if data:
            self._chunks.append(data)
            self._unread += len(data)
            if self._waiter is not None and self._unread >= self._enough:
                self._wake()
        return self._unread >= PAUSE_BYTES

    def end(self, problem: Exception | None = None) -> None:
        """The body is complete, or its rest will not come. The connection no longer belongs to this response."""
        self._connection = None
        self._problem = problem
        self.arrived = problem is None
        if self._waiter is not None:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
