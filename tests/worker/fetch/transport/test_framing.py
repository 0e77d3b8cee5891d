"""Where a body ends."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchq_worker.fetch.transport.errors import BodyBroken, HeadTooLarge
from fetchq_worker.fetch.transport.framing import Chunked, Sized
from fetchq_worker.fetch.transport.head import MAX_HEAD_BYTES


def _chunks(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(0, 10_000)), st.binary(max_size=5))
def test_chunks_are_read_however_they_are_cut(pieces: list[bytes], cuts: list[int], rest: bytes) -> None:
    framing = Chunked()
    body, after = b"", b""
    for part in _cut(_chunks(pieces) + rest, cuts):
        if framing.ended:
            after += part
        else:
            body += framing.feed(part)

    assert (body, framing.ended, framing.rest + after, framing.keep_alive) == (b"".join(pieces), True, rest, True)


def test_a_sized_body_ends_at_its_length() -> None:
    framing = Sized(5)
    assert (framing.feed(b"abc"), framing.ended) == (b"abc", False)
    assert (framing.feed(b"defg"), framing.ended, framing.rest) == (b"de", True, b"fg")
    assert Sized(0).ended


@pytest.mark.parametrize(
    "data",
    [
        b"zz\r\n",
        b"\r\n",
        b"-1\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1 1\r\n",
        b"1,\r\n",
        b"1\r\nab\r\n",
        b"1\r\na1\r\n",
        b"1;a\rb\r\na\r\n",
        b"1;a\0\r\na\r\n",
        b"11111111111111111\r\n",
        b"0\r\nX: a\0\r\n\r\n",
        b"0\r\nX: a\rb\r\n\r\n",
    ],
)
def test_malformed_chunks_are_refused_whole_and_by_bytes(data: bytes) -> None:
    for step in (len(data), 1):
        framing = Chunked()
        with pytest.raises(BodyBroken):
            for at in range(0, len(data), step):
                framing.feed(data[at : at + step])


@pytest.mark.parametrize("size", [b"3", b"003", b"3 \t", b"3;a=b", b'3 ; a="b"', b"3;\xe9"])
def test_sizes_may_have_zeros_padding_and_extensions(size: bytes) -> None:
    assert Chunked().feed(size + b"\r\nabc\r\n0\r\n\r\n") == b"abc"


@pytest.mark.parametrize("data", [b"1\na\n0\nX: y\n\n", b"1\r\na\n0\r\n\r\n", b"1\r\na\r\n0\r\n\n"])
def test_lines_that_end_with_a_line_feed_alone_cost_the_reuse_of_the_connection(data: bytes) -> None:
    for step in (len(data), 1):
        framing = Chunked()
        body = b"".join(framing.feed(data[at : at + step]) for at in range(0, len(data), step))
        assert (body, framing.ended, framing.rest, framing.keep_alive) == (b"a", True, b"", False)


def test_a_malformed_trailer_costs_the_reuse_of_the_connection() -> None:
    framing = Chunked()
    assert framing.feed(b"1\r\na\r\n0\r\nX A: b\r\n\r\n") == b"a"
    assert framing.ended
    assert not framing.keep_alive


@pytest.mark.parametrize(
    "data",
    [
        b"1;" + b"a" * MAX_HEAD_BYTES,
        b"0\r\nX: " + b"a" * MAX_HEAD_BYTES,
        b"0\r\n" + b"X: a\r\n" * (MAX_HEAD_BYTES // 6 + 1),
    ],
    ids=["an extension", "a trailer", "many trailers"],
)
def test_lines_are_bounded(data: bytes) -> None:
    with pytest.raises(HeadTooLarge):
        Chunked().feed(data)
