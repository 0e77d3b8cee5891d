"""One connection's side of HTTP/1.1: aiohttp's, and stricter where RFC 9112 leaves it no choice.

aiohttp hands bytes that nobody asked for to the next request of the connection, reads interim answers without end,
takes a body that a reset cut off for a whole one, and drops a complete answer for what follows it in the same segment.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from aiohttp import ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from .failure import HeadTooLarge, ResponseMalformed, is_head_too_large

MAX_INTERIM_ANSWERS: Final = 64
"""1xx answers before the final one (RFC 9110, section 15.2). One is usual, and a 102 every few seconds is legal."""

MAX_HEADER_LINE_BYTES: Final = 16 << 10
MAX_HEADER_FIELDS: Final = 256

_JOINED_BYTES: Final = 16 << 10
"""The longest body of a request that is copied behind its head, so that both go out in one segment."""
_HEAD_END: Final = re.compile(rb"\n\r?\n")


class ConnectionProtocol(ResponseHandler):
    """A connection that ends as soon as it can no longer be told which answer its bytes belong to."""

    _parked = False
    """In the pool, with no request under way."""
    _head_awaited = False
    _head_begun = False
    _interim = 0
    _silence_ends_at: float | None = None
    """When the server has been silent for too long, on the loop's clock; None while nothing is awaited of it."""
    _alarm: asyncio.TimerHandle | None = None
    _alarm_at = 0.0

    def park(self) -> bool:
        """Goes to the pool, if nothing of an answer is left in it; False: it is to be closed."""
        self._parked = True
        return not self._holds_more()

    def ask(self, head: bytes, body: bytes | None, read_timeout_s: float, *, bodiless: bool) -> None:
        """Sends a request, whose answer is then to be `read`; `bodiless` says that it has no body by its method.

        Over a connection that ends meanwhile nothing is sent, and `read` raises.
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
        """The server has taken most of a long request: its time to answer begins."""
        super().resume_writing()
        if self._head_awaited:
            self.start_timeout()

    def set_response_params(self, **params: Any) -> None:
        """A request is about to be sent."""
        self._head_awaited = True
        self._head_begun = False
        self._interim = 0
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        if self._parked:
            if data:  # a reader that takes the last of its body feeds nothing, which resumes what it had paused
                self.abort()
            return
        while self._head_awaited:
            # Head by head: the parser forgets a complete answer if what follows it in the same bytes is malformed.
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
            self._reschedule_timeout()  # which aiohttp drops at an interim answer, taking it for the whole

    def feed_data(self, data: Any, size: int = 0) -> None:
        """The head of an answer has been parsed. Interim ones end here."""
        head = data[0]
        if head.code >= 200 or head.code == 101:
            self._head_awaited = False
            if "Transfer-Encoding" in head.headers and not _is_chunked(head.headers.getall("Transfer-Encoding")):
                self._refuse(ResponseMalformed("the answer has a transfer coding that was not asked for"))
            else:
                super().feed_data(data, size)
        elif head.code < 100:
            self._refuse(ResponseMalformed("the status code of the answer is none"))
        else:
            self._head_begun = False
            self._interim += 1
            if self._interim > MAX_INTERIM_ANSWERS:
                self._refuse(ResponseMalformed(f"more than {MAX_INTERIM_ANSWERS} interim answers"))

    def resume_reading(self, resume_parser: bool = True) -> None:
        """As aiohttp's, which goes through the parser at every read of a body, paused or not."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def set_exception(self, exc: Any, *cause: BaseException) -> None:
        if cause and exc.__cause__ is None:
            exc.__cause__ = cause[0]
        super().set_exception(exc, *cause)
        # The parser lets go of the body in which it found the fault, and whoever reads that would wait for ever.
        if isinstance(exc, HttpProcessingError):
            too_large = is_head_too_large(cause[0] if cause else exc)
            self._break_body(HeadTooLarge() if too_large else ClientPayloadError("malformed"))

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._head_awaited and self._head_begun and self._exception is None:
            self.set_exception(ResponseMalformed("the connection ended within the head of the answer"))
        if exc is not None:  # RFC 9112, section 8: a body that only the end of the connection ends is cut short by this
            self._break_body(ClientPayloadError("the connection broke within the body"))
        super().connection_lost(exc)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _reschedule_timeout(self) -> None:
        """As aiohttp's, but for its setting and cancelling three timers a request: here one stands, and is moved on."""
        if not self._read_timeout:
            self._silence_ends_at = None
            return
        self._silence_ends_at = ends_at = self._loop.time() + self._read_timeout
        if self._alarm is None:
            self._set_alarm(ends_at)
        elif ends_at < self._alarm_at:
            self._alarm.cancel()
            self._set_alarm(ends_at)

    def _drop_timeout(self) -> None:
        self._silence_ends_at = None

    def _set_alarm(self, at: float) -> None:
        self._alarm_at = at
        self._alarm = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        ends_at = self._silence_ends_at
        if ends_at is None:
            return
        if self._loop.time() < ends_at:
            self._set_alarm(ends_at)
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
        """Whether something came after the answer that has been read, if only the beginning of another one."""
        if self.should_close:
            return True
        try:
            return self._parser is not None and self._parser.feed_eof() is not None
        except Exception:  # noqa: BLE001 - the parser's own, about an answer that nobody asked for
            return True


def _is_chunked(fields: list[str]) -> bool:
    """The one transfer coding that a client who names none must take (RFC 9112, section 7). The parser gives a body of
    any other out as it came."""
    return len(fields) == 1 and fields[0].strip().lower() == "chunked"
