"""The client's side of an HTTP/1.1 connection (RFC 9112).

It is closed as soon as its bytes can no longer be assigned to a response.
"""

from __future__ import annotations

import asyncio
import enum
import ssl
from typing import Final, Protocol, cast

from .errors import BodyBroken, ConnectionBroken, HeadTooLarge, ReadTimedOut, ResponseMalformed
from .framing import Chunked, Framing, Sized, UntilClose
from .head import HEAD_END, LONGEST_HEAD_END, MAX_HEAD_BYTES, Head, may_become_head, parse_head
from .response import Response

MAX_INTERIM_RESPONSES: Final = 64
"""1xx responses before the final one (RFC 9110, section 15.2). One is usual, and a 102 every few seconds is legal."""

_JOINED_BYTES: Final = 16 << 10
"""The longest request body that is joined to its head, so that both are sent in one segment."""
_NO_BODY: Final = frozenset({204, 304})
_SPECIAL_METHODS: Final = frozenset({"HEAD", "CONNECT"})
"""Their responses have no body, or a tunnel in its place."""


class State(enum.Enum):
    """What the next bytes of a connection belong to."""

    NEW = "new"
    """The first request is not sent yet: a server may respond before it has read one."""
    IDLE = "idle"
    """No request is in progress: there must be none."""
    HEAD = "awaits a head"
    BODY = "reads a body"
    CLOSED = "closed"


_NEW: Final = State.NEW
_IDLE: Final = State.IDLE
_HEAD: Final = State.HEAD
_BODY: Final = State.BODY
_CLOSED: Final = State.CLOSED


class Owner(Protocol):
    """What is told of a connection's open and idle times: the pool."""

    def opened(self, connection: Connection) -> None: ...

    def closed(self, connection: Connection) -> None: ...

    def put(self, connection: Connection) -> None:
        """The connection has become idle."""


class Connection(asyncio.Protocol):
    """One connection, and the response in progress on it."""

    __slots__ = (
        "_buffer",
        "_early",
        "_framing",
        "_interim",
        "_is_reading_paused",
        "_is_writing_paused",
        "_keep_alive",
        "_method",
        "_pool",
        "_read_timeout_s",
        "_response",
        "_silence_ends_at",
        "_timer",
        "_timer_at",
        "_transport",
        "_waiter",
        "idle_in",
        "loop",
        "state",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Owner) -> None:
        self.loop = loop
        self.state = _NEW
        self.idle_in: list[Connection] | None = None
        """The list to which the pool adds this connection while it is idle; None: it is closed after a response."""
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._buffer: bytearray | None = None
        """The beginning of a head whose end is still to come."""
        self._early = b""
        """What came before the first request was sent."""
        self._waiter: asyncio.Future[Response] | None = None
        """Of the request in progress. Kept until its response is complete."""
        self._response: Response | None = None
        self._framing: Framing | None = None
        self._keep_alive = False
        self._method = ""
        self._interim = 0
        self._is_reading_paused = self._is_writing_paused = False
        self._read_timeout_s = 0.0
        self._silence_ends_at: float | None = None
        """When the read timeout ends, on the loop's clock; None while no data is expected."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def __repr__(self) -> str:
        return f"<Connection {self.state.value}>"

    @property
    def transport(self) -> asyncio.Transport:
        """Present while the connection is open."""
        assert self._transport is not None
        return self._transport

    def send(self, head: bytes, body: bytes | None, read_timeout_s: float, method: str) -> asyncio.Future[Response]:
        """Sends a request. The future has the response when its head has arrived.

        It raises `ConnectionBroken`, `ReadTimedOut`, `ResponseMalformed` and `HeadTooLarge`. A caller that no longer
        waits for it calls `give_up`.
        """
        waiter = self.loop.create_future()
        transport = self._transport
        is_open = transport is not None and not transport.is_closing()
        if self.state is _CLOSED or not (is_open or self._early):
            waiter.set_exception(ConnectionBroken())
            return waiter
        self._enter(_HEAD)
        self._waiter = waiter
        self._method = method
        self._interim = 0
        self._read_timeout_s = read_timeout_s
        if transport is not None and is_open:
            if not body:
                transport.write(head)
            elif len(body) <= _JOINED_BYTES:
                transport.write(head + body)
            else:
                transport.write(head)
                transport.write(body)
            if not self._is_writing_paused:
                self._expect_data()
        if self._early:
            self._take_early()
        return waiter

    def park(self) -> None:
        """Returns a connection to the pool over which nothing was sent."""
        if self.state is _NEW and not self._early:
            self._enter(_IDLE)
        if self.is_usable():
            self._pool.put(self)
        else:
            self.abort()

    def on_secured(self, transport: asyncio.Transport) -> None:
        """TLS has begun inside a tunnel, whose other end is the server."""
        self._transport = transport
        self._enter(_NEW)

    def give_up(self, waiter: asyncio.Future[Response]) -> None:
        """Closes the connection if that request is still in progress on it."""
        if self._waiter is waiter:
            self.abort()

    def abort(self) -> None:
        """Closes the connection at once: what is unsent is not sent, and a response in progress is dropped."""
        self._enter(_CLOSED)
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Closes the connection. TLS would wait for the server's answer, and unsent data until the server reads it."""
        if self._transport is None or self._is_tls() or self._transport.get_write_buffer_size():
            self.abort()
        else:
            self._enter(_CLOSED)
            self._transport.close()

    def shut_down(self) -> None:
        """Closes the connection, and fails a request in progress on it."""
        if self.state is _HEAD:
            self._fail(ConnectionBroken())
        elif self.state is _BODY:
            self._fail(BodyBroken())
        else:
            self.abort()

    def is_usable(self) -> bool:
        """Whether an idle connection can take a request."""
        return self.state is _IDLE and self._transport is not None and not self._transport.is_closing()

    def resume_reading(self) -> None:
        """Called when what was received has been read."""
        if self._is_reading_paused:
            self._is_reading_paused = False
            if self._transport is not None:
                self._transport.resume_reading()
            if self.state is _BODY:
                self._expect_data()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state is _HEAD:
            self._take_head(data)
        elif state is _BODY:
            self._take_body(data)
        elif state is _NEW and len(self._early) + len(data) <= MAX_HEAD_BYTES:
            self._early += data
        elif state is not _CLOSED and data:
            self.abort()

    def eof_received(self) -> None:
        """The transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        if self.state is _NEW and self._early:
            self._transport = None
        else:
            self._on_end(exc)
        self._pool.closed(self)

    def pause_writing(self) -> None:
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        """The server has received most of a long request: the read timeout begins."""
        self._is_writing_paused = False
        if self.state is _HEAD:
            self._expect_data()

    # The response.

    def _on_end(self, exc: Exception | None) -> None:
        """The connection has ended, by an error if there is one."""
        lasted_until_close = exc is None and self._framing is not None and self._framing.until_close
        if lasted_until_close and self._response is not None:
            self._response.maybe_cut = self._is_tls() and not self._was_tls_ended()
        self._transport = None
        if self.state is _HEAD:
            problem: Exception
            if self._buffer is not None:
                problem = ResponseMalformed("the connection ended within the head of the response")
            else:
                problem = ConnectionBroken()
            problem.__cause__ = exc
            self._fail(problem)
        elif self.state is _BODY:
            # RFC 9112, section 8: a body that lasts until the connection ends is truncated by a reset.
            if lasted_until_close:
                self._finish(b"", keep_alive=False)
            else:
                self._fail(BodyBroken())
        else:
            self._enter(_CLOSED)

    def _take_early(self) -> None:
        early, self._early = self._early, b""
        self._take_head(early)
        if self._transport is None and self.state is not _CLOSED:
            self._on_end(None)

    def _take_head(self, data: bytes) -> None:
        """Reads heads until that of the final response."""
        begin = 0
        seen: bytes | bytearray
        if self._buffer is None:
            seen = data.lstrip(b"\r\n")  # line breaks before a status line (RFC 9112, section 2.2)
        else:
            seen = self._buffer
            begin = max(0, len(seen) - LONGEST_HEAD_END + 1)
            seen += data
        while True:
            end = HEAD_END.search(seen, begin)
            size = len(seen) if end is None else end.end()
            if size > MAX_HEAD_BYTES:
                return self._fail(HeadTooLarge())
            if end is None:
                return self._await_head(seen)
            try:
                head = parse_head(bytes(seen[:size]))
            except ResponseMalformed as problem:
                return self._fail(problem)
            rest = bytes(seen[size:])
            self._buffer = None
            if head.status >= 200 or head.status == 101:
                return self._begin(head, rest)
            self._interim += 1
            if self._interim > MAX_INTERIM_RESPONSES:
                return self._fail(ResponseMalformed(f"more than {MAX_INTERIM_RESPONSES} interim responses"))
            seen, begin = rest.lstrip(b"\r\n"), 0

    def _await_head(self, seen: bytes | bytearray) -> None:
        if not may_become_head(seen):
            self._fail(ResponseMalformed("the response is not well-formed HTTP"))
            return
        if seen and self._buffer is None:
            self._buffer = bytearray(seen)
        self._expect_data()

    def _begin(self, head: Head, rest: bytes) -> None:
        """The final head has arrived, with the beginning of the body."""
        method, status, waiter = self._method, head.status, self._waiter
        if head.length == len(rest) and head.keep_alive and status not in _NO_BODY and method not in _SPECIAL_METHODS:
            return self._deliver(Response(method, head, head.length, None, rest))
        framing: Framing
        opens_tunnel = method == "CONNECT" and status // 100 == 2
        if method == "HEAD" or status in _NO_BODY or opens_tunnel:
            framing = Sized(0)
        elif head.problem is not None:
            return self._fail(ResponseMalformed(head.problem))
        elif head.chunked:
            framing = Chunked()
        elif head.length is not None:
            framing = Sized(head.length)
        else:
            framing = UntilClose()
        length = framing.length if isinstance(framing, Sized) else None
        self._response = response = Response(method, head, length, self)
        self._framing = framing
        self._keep_alive = (head.keep_alive and status != 101) or opens_tunnel
        self._enter(_BODY)
        self._take_body(rest)
        if waiter is not None and not waiter.done():
            waiter.set_result(response)
        return None

    def _deliver(self, response: Response) -> None:
        """The response has arrived as a whole, as most do: `_begin` and `_finish` in one step."""
        waiter = self._waiter
        if self._transport is None or self._transport.get_write_buffer_size():
            self.close()
        else:
            self._enter(_IDLE)
            self._pool.put(self)
        if waiter is not None and not waiter.done():
            waiter.set_result(response)

    def _take_body(self, data: bytes) -> None:
        framing, response = self._framing, self._response
        assert framing is not None
        assert response is not None
        try:
            must_pause = response.feed(framing.feed(data))
        except (BodyBroken, HeadTooLarge) as problem:
            self._fail(problem)
            return
        if framing.ended:
            self._finish(framing.rest, keep_alive=self._keep_alive and framing.keep_alive)
        elif must_pause:
            self._silence_ends_at = None
            if not self._is_reading_paused and self._transport is not None:
                self._is_reading_paused = True
                self._transport.pause_reading()
        else:
            self._expect_data()

    def _finish(self, rest: bytes, *, keep_alive: bool) -> None:
        """The response is complete. `rest` came after it."""
        response = self._response
        assert response is not None
        if rest or not keep_alive or self._transport is None or self._transport.get_write_buffer_size():
            self.close()
        else:
            self._enter(_IDLE)
            self.resume_reading()
            self._pool.put(self)
        response.end()

    def _fail(self, problem: Exception) -> None:
        """No more of the response can be read."""
        waiter, response = self._waiter, self._response
        self.abort()
        if response is not None:
            response.end(problem)
        elif waiter is not None and not waiter.done():
            waiter.set_exception(problem)

    def _enter(self, state: State) -> None:
        """The only place that changes the state."""
        self.state = state
        if state is _IDLE or state is _CLOSED:
            self._waiter = self._response = self._framing = self._buffer = self._silence_ends_at = None
            if state is _CLOSED and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    # The read timeout: one timer, moved for each request in place of made.

    def _expect_data(self) -> None:
        self._silence_ends_at = ends_at = self.loop.time() + self._read_timeout_s
        if self._timer is None:
            self._set_timer(ends_at)
        elif ends_at < self._timer_at:
            self._timer.cancel()
            self._set_timer(ends_at)

    def _set_timer(self, at: float) -> None:
        self._timer_at = at
        self._timer = self.loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        ends_at = self._silence_ends_at
        if ends_at is None:
            return
        if self.loop.time() < ends_at:
            self._set_timer(ends_at)
        else:
            self._fail(ReadTimedOut())

    def _is_tls(self) -> bool:
        return self._transport is not None and self._transport.get_extra_info("ssl_object") is not None

    def _was_tls_ended(self) -> bool:
        """Whether the server announced the end of the TLS connection (RFC 8446, section 6.1, `close_notify`)."""
        tls = self.transport.get_extra_info("ssl_object")
        try:
            return not tls.read(1)
        except ssl.SSLError as problem:
            return isinstance(problem, ssl.SSLZeroReturnError)
