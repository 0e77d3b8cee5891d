"""The codings gzip (RFC 1952) and deflate (RFC 1950, RFC 1951).

Both contain a raw deflate stream. Header and trailer are read here, not by zlib, because only the end of the raw stream
tells a body that lacks its trailer, which browsers and curl show, from one that is truncated. The checksum of a whole
trailer is compared.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from .errors import BrokenCoding

try:
    from isal import isal_zlib  # about twice as fast as zlib
except ImportError:  # no wheel for this platform
    _zlib: Any = zlib
else:
    _zlib = isal_zlib

INFLATE_ERRORS: Final[tuple[type[Exception], ...]] = (zlib.error, _zlib.error)
STEP_BYTES: Final = 1 << 16
"""Approximate maximum of what one step of any coding yields; br rounds it up to its own blocks."""
MAX_MEMBERS: Final = 1 << 14
"""Of a gzip or zstd body: even an empty member costs time, and 64 MiB in blocks of 4 KiB need no more."""
MAX_HEADER_BYTES: Final = 1 << 17
"""Of a gzip member: 64 KiB of extra field, and names as long."""

_MAGIC: Final = b"\x1f\x8b\x08"
_TRAILER_BYTES: Final = 8
_RESERVED_FLAGS: Final = 0xE0
_FLUSHED: Final = b"\0\0\xff\xff"
"""How data ends that was flushed to the next byte: an empty block."""
_FEXTRA, _FNAME, _FCOMMENT, _FHCRC = 4, 8, 16, 2


class _Inflater:
    """A raw deflate stream, and the checksum of its output."""

    __slots__ = ("_checksum", "_last", "_stream", "size", "value")

    def __init__(self, checksum: Callable[[bytes, int], int], start: int) -> None:
        self._stream = _zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        self._checksum = checksum
        self._last = b""
        self.value = start
        self.size = 0

    @property
    def ended(self) -> bool:
        return bool(self._stream.eof)

    @property
    def truncated(self) -> bool:
        """Whether it has neither ended nor been flushed. Some servers flush a stream and never write its last block."""
        return not self._stream.eof and self._last != _FLUSHED

    @property
    def rest(self) -> bytes:
        """The data after the end of the stream."""
        rest: bytes = self._stream.unused_data
        return rest

    def decode(self, data: bytes) -> Iterator[bytes]:
        """The output for `data`, in steps. A full step may leave output inside even if all input is consumed."""
        stream = self._stream
        self._last = data[-4:] if len(data) >= 4 else (self._last + data)[-4:]
        while True:
            piece: bytes = stream.decompress(data, STEP_BYTES)
            if piece:
                self.value = self._checksum(piece, self.value)
                self.size += len(piece)
                yield piece
            data = stream.unconsumed_tail
            if stream.eof or (not data and len(piece) < STEP_BYTES):
                return


class Gzip:
    """A sequence of members. What follows a member and does not begin another one is ignored, as in browsers."""

    def __init__(self) -> None:
        self._members = 0
        self._held = b""
        """The part of a header or trailer that has arrived."""
        self._inflater: _Inflater | None = None
        """None: in a header."""
        self._ignored = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data and not self._ignored:
            inflater = self._inflater
            if inflater is None:
                data = self._read_header(self._held + data)
            elif not inflater.ended:
                yield from inflater.decode(data)
                data = inflater.rest
            else:
                data = self._read_trailer(self._held + data, inflater)

    def _read_header(self, data: bytes) -> bytes:
        """What follows the header; empty if more is needed."""
        if not data.startswith(_MAGIC[: len(data)]) or (len(data) > 3 and data[3] & _RESERVED_FLAGS):
            if not self._members:
                raise BrokenCoding("the body is not gzip")
            self._ignored = True
            return b""
        end = _end_of_header(data)
        if end is None:
            self._held = data
            if len(data) > MAX_HEADER_BYTES:
                raise BrokenCoding("the header of the gzip body is too long")
            return b""
        self._members = one_more(self._members)
        self._held, self._inflater = b"", _Inflater(_zlib.crc32, 0)
        return data[end:]

    def _read_trailer(self, data: bytes, inflater: _Inflater) -> bytes:
        """What follows the trailer; empty if more is needed."""
        if len(data) < _TRAILER_BYTES:
            self._held = data
            return b""
        checksum, size = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")
        if checksum != inflater.value or size != inflater.size & 0xFFFFFFFF:
            raise BrokenCoding("the gzip body is corrupt: its checksum differs")
        self._held, self._inflater = b"", None
        return data[_TRAILER_BYTES:]

    def check_ended(self) -> None:
        if self._inflater is not None:
            truncated = self._inflater.truncated
        else:
            truncated = len(self._held) >= (len(_MAGIC) if self._members else 1)
        if truncated:
            raise BrokenCoding("the gzip body is truncated")


def _end_of_header(data: bytes) -> int | None:
    """Where the header of a member ends (RFC 1952, section 2.3); None if it has not arrived whole."""
    if len(data) < 10:
        return None
    flags, at = data[3], 10
    if flags & _FEXTRA:
        at += 2 + int.from_bytes(data[at : at + 2], "little")
    for flag in (_FNAME, _FCOMMENT):
        if flags & flag:
            at = data.find(b"\0", at) + 1
            if at == 0:
                return None
    if flags & _FHCRC:
        at += 2
    return at if at <= len(data) else None


class Deflate:
    """The zlib format, or the raw one that some servers send under the same name."""

    def __init__(self) -> None:
        self._inflater: _Inflater | None = None
        self._held = b""
        """The part of the header, or of the checksum, that has arrived."""
        self._has_checksum = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        if self._inflater is None:
            self._held += data
            if len(self._held) < 2:
                return
            data, self._held = self._held, b""
            self._has_checksum = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
            if self._has_checksum:
                if data[1] & 0x20:
                    raise BrokenCoding("the deflate body asks for a dictionary")
                data = data[2:]
            self._inflater = _Inflater(_zlib.adler32, 1)
        if not self._inflater.ended:
            yield from self._inflater.decode(data)
            data = self._inflater.rest
        if self._has_checksum and self._inflater.ended:
            self._compare_checksum(data, self._inflater.value)

    def _compare_checksum(self, data: bytes, value: int) -> None:
        missing = 4 - len(self._held)
        self._held += data[:missing]
        if len(self._held) == 4 and int.from_bytes(self._held, "big") != value:
            raise BrokenCoding("the deflate body is corrupt: its checksum differs")

    def check_ended(self) -> None:
        if self._held if self._inflater is None else self._inflater.truncated:
            raise BrokenCoding("the deflate body is truncated")


def one_more(members: int) -> int:
    """The number of members of a body with one more; raises `BrokenCoding` beyond the limit."""
    if members >= MAX_MEMBERS:
        raise BrokenCoding(f"the body has more than {MAX_MEMBERS} members")
    return members + 1
