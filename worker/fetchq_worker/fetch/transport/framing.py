"""Where a body ends (RFC 9112, sections 6 and 7). Pure: bytes in, bytes of the body out.

Framing is strict: what ends where must be certain. A line feed alone ends a line, as in browsers and curl, but costs
the reuse of the connection.
"""

from __future__ import annotations

import re
from typing import Final

from .errors import BodyBroken, HeadTooLarge
from .head import MAX_HEAD_BYTES

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;[\t -~\x80-\xff]*)?")
"""Extensions are ignored. The blanks before a line's end are some servers' padding."""
_MAX_SIZE_DIGITS: Final = 16
_SIZE_LINE_BEGINNING: Final = re.compile(rb"[0-9A-Fa-f]*\r?|[0-9A-Fa-f]+[ \t]*(?:;.*|\r)?", re.DOTALL)
_SHORT_LINE: Final = 64
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\0]*")
_NOT_IN_A_TRAILER: Final = re.compile(rb"[\r\n\0]")


class Sized:
    """A body of known length. `feed` returns the part of the body in what follows what was fed before."""

    __slots__ = ("_left", "ended", "length", "rest")

    until_close: Final = False
    keep_alive: Final = True

    def __init__(self, length: int) -> None:
        self.length = length
        self._left = length
        self.ended = length == 0
        """Whether the body is complete."""
        self.rest = b""
        """What came after it."""

    def feed(self, data: bytes) -> bytes:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            return data
        self.ended = True
        if left:
            self.rest = data[left:]
            return data[:left]
        return data


class UntilClose:
    """A body that ends with the connection."""

    __slots__ = ()

    ended: Final = False
    rest: Final = b""
    until_close: Final = True
    keep_alive: Final = False

    def feed(self, data: bytes) -> bytes:
        return data


class Chunked:
    """A body in chunks (RFC 9112, section 7.1). Trailer fields are read and dropped (section 7.1.2)."""

    __slots__ = ("_left", "_line", "_step", "_trailer_bytes", "ended", "keep_alive", "rest")

    until_close: Final = False

    def __init__(self) -> None:
        self._step = self._size
        self._left = 0
        """Bytes of the current chunk that are still to come."""
        self._line = bytearray()
        """The beginning of a line whose end is still to come."""
        self._trailer_bytes = 0
        self.ended = False
        self.keep_alive = True
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """As `Sized.feed`; raises `BodyBroken` and `HeadTooLarge`."""
        pieces: list[bytes] = []
        at = 0
        while at < len(data) and not self.ended:
            at = self._step(data, at, pieces)
        if self.ended:
            self.rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # A step takes what it can from `data[at:]`, and returns where the next one begins.

    def _size(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        seen = len(self._line)
        line, at = self._take_line(data, at)
        if line is None:
            if seen < _SHORT_LINE and not _SIZE_LINE_BEGINNING.fullmatch(self._line[:_SHORT_LINE]):
                raise BodyBroken("the size of a chunk is malformed")
            return at
        found = _SIZE_LINE.fullmatch(line)
        if found is None:
            raise BodyBroken("the size of a chunk is malformed")
        digits = found[1].lstrip(b"0")
        if len(digits) > _MAX_SIZE_DIGITS:
            raise BodyBroken("the size of a chunk is too large")
        self._left = int(digits or b"0", 16)
        self._step = self._data if digits else self._trailer
        return at

    def _data(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        piece = data[at : at + self._left]
        pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._step = self._data_end
        return at + len(piece)

    def _data_end(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        line, at = self._take_line(data, at)
        if line:
            raise BodyBroken("a chunk is longer than its size")
        if line is not None:
            self._step = self._size
        elif self._line and self._line != b"\r":
            raise BodyBroken("a chunk is longer than its size")
        return at

    def _trailer(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        line, at = self._take_line(data, at)
        if line is None:
            return at
        self._trailer_bytes += len(line) + 2
        if self._trailer_bytes > MAX_HEAD_BYTES:
            raise HeadTooLarge
        if not line:
            self.ended = True
        elif _NOT_IN_A_TRAILER.search(line):
            raise BodyBroken("a trailer field is malformed")
        elif not _TRAILER.fullmatch(line):
            self.keep_alive = False
        return at

    def _take_line(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        """The line at that position without its end, None if its end is still to come, and what follows it."""
        end = data.find(b"\n", at)
        if end < 0:
            self._line += data[at:]
            self._check_line(self._line)
            return None, len(data)
        if self._line:
            line = bytes(self._line) + data[at:end]
            self._line.clear()
        else:
            line = data[at:end]
        self._check_line(line)
        if not line.endswith(b"\r"):
            self.keep_alive = False
            return line, end + 1
        return line[:-1], end + 1

    def _check_line(self, line: bytes | bytearray) -> None:
        if len(line) > MAX_HEAD_BYTES:
            raise HeadTooLarge


Framing = Sized | UntilClose | Chunked
