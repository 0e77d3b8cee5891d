"""Decoding of content codings in small steps, so that a bomb is stopped after any of them (RFC 9110, section 8.4)."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP_BYTES: Final = 1 << 16
"""Approximate maximum of what one step yields; br rounds it up to its own blocks."""
MAX_CODINGS: Final = 5
"""Codings of one body. curl has the same limit."""
MAX_MEMBERS: Final = 1 << 14
"""Of a gzip or zstd body: even an empty member costs time, and 64 MiB in blocks of 4 KiB need no more."""
_MAX_ZSTD_WINDOW_LOG: Final = 23
"""8 MiB: RFC 9659, section 3."""

_DECODE_ERRORS: Final = (zlib.error, brotli.error, zstd.ZstdError)


class BrokenCoding(ValueError):
    """The body does not have the coding that its headers name."""


class CodingTooLarge(ValueError):
    """The output of a decoding step exceeds the limit."""


class _Step(Protocol):
    """One coding. It yields about `STEP_BYTES` at a time."""

    def decode(self, data: bytes) -> Iterator[bytes]: ...

    def check_ended(self) -> None:
        """Raises `BrokenCoding` if the data is truncated."""


class _Gzip:
    """RFC 1952: a sequence of members. Trailing bytes that are not a member are ignored, as browsers do."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._members = 0
        self._between = b""
        """Bytes after a member that are too short to tell whether another one begins."""
        self._ended = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data and not self._ended:
            if self._member.eof:
                data, self._between = self._between + data, b""
                if data == b"\x1f":
                    self._between = data
                    return
                if not data.startswith(b"\x1f\x8b"):
                    self._ended = True
                    return
                self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)
                self._members = _one_more(self._members)
            else:
                self._members = self._members or 1
            yield from _inflate(self._member, data)
            data = self._member.unused_data

    def check_ended(self) -> None:
        if self._members and not self._member.eof:
            raise BrokenCoding("the gzip body is truncated")


class _Deflate:
    """The zlib format (RFC 1950), or the raw one (RFC 1951) that some servers send under the same name."""

    def __init__(self) -> None:
        self._stream: zlib._Decompress | None = None
        self._head = b""

    def decode(self, data: bytes) -> Iterator[bytes]:
        if self._stream is None:
            self._head += data
            if len(self._head) < 2:
                return
            data, self._head = self._head, b""
            zlib_format = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
            self._stream = zlib.decompressobj(zlib.MAX_WBITS if zlib_format else -zlib.MAX_WBITS)
        if not self._stream.eof:
            yield from _inflate(self._stream, data)

    def check_ended(self) -> None:
        if self._head or (self._stream is not None and not self._stream.eof):
            raise BrokenCoding("the deflate body is truncated")


def _inflate(stream: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """The output for `data`, in steps. A full step may leave output inside zlib even if all input is consumed."""
    while True:
        piece = stream.decompress(data, STEP_BYTES)
        if piece:
            yield piece
        data = stream.unconsumed_tail
        if stream.eof or (not data and len(piece) < STEP_BYTES):
            return


class _Brotli:
    """RFC 7932."""

    def __init__(self) -> None:
        self._stream = brotli.Decompressor()
        self._fresh = True

    def decode(self, data: bytes) -> Iterator[bytes]:
        if self._stream.is_finished():
            return
        self._fresh = False
        piece = self._stream.process(data, output_buffer_limit=STEP_BYTES)
        while piece:  # brotli accepts more data while it still holds output
            yield piece
            piece = b"" if self._stream.is_finished() else self._stream.process(b"", output_buffer_limit=STEP_BYTES)

    def check_ended(self) -> None:
        if not self._fresh and not self._stream.is_finished():
            raise BrokenCoding("the br body is truncated")


class _Zstd:
    """RFC 8878: a sequence of frames."""

    def __init__(self) -> None:
        self._frame = self._next_frame()
        self._frames = 0

    @staticmethod
    def _next_frame() -> zstd.ZstdDecompressor:
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _MAX_ZSTD_WINDOW_LOG})

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._frame.eof:
                self._frame = self._next_frame()
                self._frames = _one_more(self._frames)
            else:
                self._frames = self._frames or 1
            piece = self._frame.decompress(data, STEP_BYTES)
            while True:
                if piece:
                    yield piece
                if self._frame.eof or self._frame.needs_input:
                    break
                piece = self._frame.decompress(b"", STEP_BYTES)
            data = self._frame.unused_data if self._frame.eof else b""

    def check_ended(self) -> None:
        if self._frames and not self._frame.eof:
            raise BrokenCoding("the zstd body is truncated")


def _one_more(members: int) -> int:
    if members >= MAX_MEMBERS:
        raise BrokenCoding(f"the body has more than {MAX_MEMBERS} members")
    return members + 1


_STEPS: Final[dict[str, Callable[[], _Step]]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}


class ContentDecoder:
    """Decodes the codings of one body, the last applied first."""

    def __init__(self, codings: tuple[str, ...], max_bytes: int) -> None:
        """`codings` in the order of the Content-Encoding header; raises `BrokenCoding` for an unknown one."""
        if len(codings) > MAX_CODINGS:
            raise BrokenCoding(f"the body has {len(codings)} codings, {MAX_CODINGS} is the limit")
        unknown = next((coding for coding in codings if coding not in _STEPS), None)
        if unknown is not None:
            raise BrokenCoding(f"the body has an unknown coding, {unknown[:40]!r}")
        self._steps = [_STEPS[coding]() for coding in reversed(codings)]
        # The data between two steps is normally smaller than the output; the slack is for incompressible data.
        # Without this limit a nested bomb could run for hours without yielding a byte.
        self._limit = max_bytes + (max_bytes >> 4) + STEP_BYTES
        self._seen = [0] * len(self._steps)

    def decode(self, data: bytes) -> Iterator[bytes]:
        """The output for `data`, in pieces of at most `STEP_BYTES`; raises `BrokenCoding` and `CodingTooLarge`."""
        try:
            yield from self._through(0, data)
        except _DECODE_ERRORS as problem:
            raise BrokenCoding("the body does not decode") from problem

    def _through(self, index: int, data: bytes) -> Iterator[bytes]:
        if index == len(self._steps):
            yield data
            return
        self._seen[index] += len(data)
        if self._seen[index] > self._limit:
            raise CodingTooLarge
        for piece in self._steps[index].decode(data):
            yield from self._through(index + 1, piece)

    def check_ended(self) -> None:
        """Raises `BrokenCoding` for a body that is truncated inside a coding. An empty body is complete."""
        for step in self._steps:
            step.check_ended()


def codings_of(headers: Sequence[str]) -> tuple[str, ...]:
    """The codings in the Content-Encoding fields, in order, in lower case, without `identity`."""
    if not headers:
        return ()
    named = (coding.strip().lower() for field in headers for coding in field.split(","))
    return tuple(coding for coding in named if coding and coding != "identity")
