"""Decoding of content codings in small steps, so that a bomb is stopped after any of them (RFC 9110, section 8.4)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from .errors import BrokenCoding, CodingTooLarge
from .inflate import INFLATE_ERRORS, STEP_BYTES, Deflate, Gzip, one_more

MAX_CODINGS: Final = 5
"""Codings of one body. curl has the same limit."""
_MAX_ZSTD_WINDOW_LOG: Final = 23
"""8 MiB: RFC 9659, section 3."""

_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE: Final = b"\x2a\x4d\x18"
"""The second to fourth byte of a frame to skip; the first one is 50 to 5F."""
_DECODE_ERRORS: Final = (*INFLATE_ERRORS, brotli.error, zstd.ZstdError)


class _Step(Protocol):
    """One coding. It yields about `STEP_BYTES` at a time."""

    def decode(self, data: bytes) -> Iterator[bytes]: ...

    def check_ended(self) -> None:
        """Raises `BrokenCoding` if the data is truncated."""


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
    """RFC 8878: a sequence of frames. What follows a frame and does not begin another one is ignored."""

    def __init__(self) -> None:
        self._frame = self._next_frame()
        self._frames = 0
        self._between = b""
        """Bytes after a frame that are too few to tell whether another one begins."""
        self._ignored = False

    @staticmethod
    def _next_frame() -> zstd.ZstdDecompressor:
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _MAX_ZSTD_WINDOW_LOG})

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data and not self._ignored:
            if self._frame.eof:
                data, self._between = self._between + data, b""
                if len(data) < 4:
                    self._between = data
                    return
                if data[:4] != _ZSTD_MAGIC and (data[0] & 0xF0 != 0x50 or data[1:4] != _ZSTD_SKIPPABLE):
                    self._ignored = True
                    return
                self._frame = self._next_frame()
                self._frames = one_more(self._frames)
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


_STEPS: Final[dict[str, Callable[[], _Step]]] = {
    "gzip": Gzip,
    "x-gzip": Gzip,
    "deflate": Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}


class ContentDecoder:
    """Decodes the codings of one body, the last applied first."""

    def __init__(self, codings: tuple[str, ...], max_bytes: int) -> None:
        """`codings` as `codings_of` returns them; raises `BrokenCoding` for more than `MAX_CODINGS`."""
        if len(codings) > MAX_CODINGS:
            raise BrokenCoding(f"the body has {len(codings)} codings, {MAX_CODINGS} is the limit")
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


def codings_of(fields: Sequence[str]) -> tuple[str, ...]:
    """The codings to decode, in the order of the Content-Encoding fields, in lower case, without `identity`.

    None if any of them is unknown: the body is then used as it is (fetch standard, "handle content codings").
    """
    if not fields:
        return ()
    named = [coding.strip(" \t").lower() for field in fields for coding in field.split(",")]
    codings = tuple([coding for coding in named if coding and coding != "identity"])
    return codings if all(coding in _STEPS for coding in codings) else ()
