"""The client's side of an HTTP/1.1 connection as it was before `fetch.transport`: aiohttp's protocol, made strict.

`differential` compares the two. It is not used elsewhere.

aiohttp's own gives unsolicited bytes to the connection's next request, reads any number of interim responses, accepts
a body that a reset truncated, and drops a complete response if malformed bytes follow it in the same segment.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from aiohttp import ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from fetchq_worker.fetch.transport.errors import HeadTooLarge, ResponseMalformed

MAX_INTERIM_RESPONSES: Final = 64
"""1xx responses before the final one (RFC 9110, section 15.2). One is usual, and a 102 every few seconds is legal."""

MAX_HEADER_LINE_BYTES: Final = 16 << 10
MAX_HEADER_FIELDS: Final = 256

_JOINED_BYTES: Final = 16 << 10
"""The longest request body that is joined to its head, so that both are sent in one segment."""
_HEAD_END: Final = re.compile(rb"\n\r?\n")


class ConnectionProtocol(ResponseHandler):
    """A connection that is closed as soon as its bytes can no longer be assigned to a response."""

    _parked = False
    """In the pool, with no request in progress."""
    _head_awaited = False
    _head_begun = False
    _interim = 0
    _silence_ends_at: float | None = None
    """When the read timeout ends, on the loop's clock; None while no data is expected."""
    _read_timer: asyncio.TimerHandle | None = None
    _read_timer_at = 0.0

    def park(self) -> bool:
        """Marks the connection as idle. False: it holds unread bytes and must be closed."""
        self._parked = True
        return not self._holds_more()

    def send_request(self, head: bytes, body: bytes | None, read_timeout_s: float, *, bodiless: bool) -> None:
        """Sends a request; `read` returns its response, which has no body if `bodiless`.

        If the connection has ended in the meantime, nothing is sent and `read` raises.
        """
        self._parked = False
        self.set_response_params(
            skip_payload=bodiless,
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=read_timeout_s,
            max_line_size=MAX_HEADER_LINE_BYTES,
            max_field_size=MAX_HEADER_LINE_BYTES,
            max_headers=MAX_HEADER_FIELDS,
        )
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if not body:
            transport.write(head)
        elif len(body) <= _JOINED_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        if not self._paused:
            self.start_timeout()

    def resume_writing(self) -> None:
        """The server has received most of a long request: the read timeout begins."""
        super().resume_writing()
        if self._head_awaited:
            self.start_timeout()

    def set_response_params(self, **params: Any) -> None:
        """Called before a request is sent."""
        self._head_awaited = True
        self._head_begun = False
        self._interim = 0
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        if self._parked:
            if data:  # empty if a reader that takes the last of its body resumes the paused transport
                self.abort()
            return
        while self._head_awaited:
            # Head by head: the parser drops a complete response if the bytes that follow it are malformed.
            self._head_begun = True
            end = _HEAD_END.search(data)
            if end is None or end.end() == len(data):
                break
            self._parse(data[: end.end()])
            if self._exception is not None:
                return
            data = data[end.end() :]
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        super().data_received(data)
        if self._interim and self._head_awaited and self._exception is None:
            self._reschedule_timeout()  # aiohttp ends the timeout at an interim response

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Called with each parsed head. Interim responses are dropped here."""
        head = data[0]
        if head.code >= 200 or head.code == 101:
            self._head_awaited = False
            if "Transfer-Encoding" in head.headers and not _is_chunked(head.headers.getall("Transfer-Encoding")):
                self._refuse(ResponseMalformed("the response has a transfer coding other than chunked"))
            else:
                super().feed_data(data, size)
        elif head.code < 100:
            self._refuse(ResponseMalformed("the status code of the response is below 100"))
        else:
            self._head_begun = False
            self._interim += 1
            if self._interim > MAX_INTERIM_RESPONSES:
                self._refuse(ResponseMalformed(f"more than {MAX_INTERIM_RESPONSES} interim responses"))

    def resume_reading(self, resume_parser: bool = True) -> None:
        """As aiohttp's method, but only if reading is paused.

        aiohttp's calls the parser at each read of a body.
        """
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def set_exception(self, exc: Any, *cause: BaseException) -> None:
        if cause and exc.__cause__ is None:
            exc.__cause__ = cause[0]
        super().set_exception(exc, *cause)
        # The parser drops the body in which it found the error, and its reader would wait without end.
        if isinstance(exc, HttpProcessingError):
            too_large = is_head_too_large(cause[0] if cause else exc)
            self._break_body(HeadTooLarge() if too_large else ClientPayloadError("malformed"))

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._head_awaited and self._head_begun and self._exception is None:
            self.set_exception(ResponseMalformed("the connection ended within the head of the response"))
        if exc is not None:  # RFC 9112, section 8: a body that lasts until the connection ends is truncated by a reset
            self._break_body(ClientPayloadError("the connection broke within the body"))
        super().connection_lost(exc)
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _reschedule_timeout(self) -> None:
        """As aiohttp's, but with one timer that is moved, in place of three for each request."""
        if not self._read_timeout:
            self._silence_ends_at = None
            return
        self._silence_ends_at = ends_at = self._loop.time() + self._read_timeout
        if self._read_timer is None:
            self._set_read_timer(ends_at)
        elif ends_at < self._read_timer_at:
            self._read_timer.cancel()
            self._set_read_timer(ends_at)

    def _drop_timeout(self) -> None:
        self._silence_ends_at = None

    def _set_read_timer(self, at: float) -> None:
        self._read_timer_at = at
        self._read_timer = self._loop.call_at(at, self._on_read_timer)

    def _on_read_timer(self) -> None:
        self._read_timer = None
        ends_at = self._silence_ends_at
        if ends_at is None:
            return
        if self._loop.time() < ends_at:
            self._set_read_timer(ends_at)
        else:
            self._silence_ends_at = None
            self._on_read_timeout()

    def _refuse(self, problem: ResponseMalformed) -> None:
        if self.transport is not None:
            self.transport.abort()
        self.set_exception(problem)

    def _break_body(self, problem: Exception) -> None:
        body = self._payload
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(problem)

    def _holds_more(self) -> bool:
        """Whether bytes arrived after the response, even if only the beginning of another one."""
        if self.should_close:
            return True
        try:
            return self._parser is not None and self._parser.feed_eof() is not None
        except Exception:  # noqa: BLE001 - any error of the parser means unsolicited bytes
            return True


def is_head_too_large(problem: BaseException) -> bool:
    """Whether aiohttp's parser stopped at the number or the length of header fields."""
    return isinstance(problem, LineTooLong) or "Too many headers" in str(problem)


def _is_chunked(fields: list[str]) -> bool:
    """The only transfer coding that a client must accept without naming it (RFC 9112, section 7). The parser does not
    decode any other."""
    return len(fields) == 1 and fields[0].strip().lower() == "chunked"
