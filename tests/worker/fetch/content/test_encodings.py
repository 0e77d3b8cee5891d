"""Content codings: single, stacked, truncated, and bombs."""

from __future__ import annotations

import gzip
import os
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from functools import partial

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest, FetchStatus, RetryPolicy
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.content.encoding import BrokenCoding, CodingTooLarge, ContentDecoder, codings_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def _raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw deflate": ("deflate", _raw_deflate),
    "br": ("br", partial(brotli.compress, quality=4)),
    "zstd": ("zstd", zstd.compress),
}
PAGE = b"<p>some text</p>" * 20_000


@pytest.fixture(params=list(ENCODERS.values()), ids=list(ENCODERS))
def coding(request: pytest.FixtureRequest) -> tuple[str, Callable[[bytes], bytes]]:
    pair: tuple[str, Callable[[bytes], bytes]] = request.param
    return pair


Coding = tuple[str, Callable[[bytes], bytes]]


@pytest.mark.asyncio
async def test_an_encoded_body_is_decoded(site: Site, fetcher: Fetcher, coding: Coding) -> None:
    name, encode = coding
    url = site.serve("/", http_response(encode(PAGE), headers={"Content-Encoding": name}))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url))

    assert (result.status, result.body) == (FetchStatus.OK, PAGE)


@pytest.mark.asyncio
async def test_a_body_truncated_inside_its_coding_is_a_bad_response(
    site: Site, fetcher: Fetcher, coding: Coding
) -> None:
    name, encode = coding
    url = site.serve("/", http_response(encode(os.urandom(5000))[:-20], headers={"Content-Encoding": name}))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, retry=RetryPolicy(max_tries=1)))

    assert result.status is FetchStatus.BAD_RESPONSE
    assert result.body == b""


@pytest.mark.asyncio
async def test_a_bomb_is_too_large_and_costs_little(site: Site, fetcher: Fetcher, coding: Coding) -> None:
    name, encode = coding
    bomb = encode(bytes(200_000_000))
    url = site.serve("/", http_response(bomb, headers={"Content-Encoding": name}))
    await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/warm", http_response())))

    tracemalloc.start()
    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, max_bytes=1_000_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert result.status is FetchStatus.TOO_LARGE
    assert peak < 6_000_000


@pytest.mark.asyncio
async def test_stacked_codings_are_decoded_last_first(site: Site, fetcher: Fetcher) -> None:
    body = zstd.compress(brotli.compress(gzip.compress(PAGE)))
    url = site.serve("/", http_response(body, headers={"Content-Encoding": "gzip, identity, br,zstd"}))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url))

    assert result.body == PAGE


@pytest.mark.asyncio
async def test_an_empty_body_needs_no_decoding(site: Site, fetcher: Fetcher, coding: Coding) -> None:
    url = site.serve("/", http_response(headers={"Content-Encoding": coding[0]}))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url))

    assert (result.status, result.body) == (FetchStatus.OK, b"")


def _decode(codings: tuple[str, ...], *pieces: bytes, max_bytes: int = 1 << 20) -> bytes:
    decoder = ContentDecoder(codings, max_bytes)
    decoded = b"".join(part for piece in pieces for part in decoder.decode(piece))
    decoder.check_ended()
    return decoded


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=3000), cut=st.integers(1, 50), which=st.sampled_from(sorted(ENCODERS)))
def test_a_body_decodes_in_pieces_of_any_size(data: bytes, cut: int, which: str) -> None:
    name, encode = ENCODERS[which]
    encoded = encode(data)
    pieces = [encoded[at : at + cut] for at in range(0, len(encoded), cut)]

    assert _decode((name.lower(),), *pieces) == data


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 131_072, 98_304, 1_000_000])
def test_a_body_of_whole_steps_is_decoded_completely(coding: Coding, size: int) -> None:
    name, encode = coding

    assert _decode((name.lower(),), encode(bytes(size))) == bytes(size)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=500), which=st.sampled_from(sorted(ENCODERS)))
def test_garbage_decodes_or_is_refused(data: bytes, which: str) -> None:
    try:
        decoded = _decode((ENCODERS[which][0].lower(),), data)
    except BrokenCoding:
        return
    assert isinstance(decoded, bytes)


@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_all_gzip_members_are_decoded_and_trailing_bytes_ignored(cut: int) -> None:
    encoded = gzip.compress(b"one,") + gzip.compress(b"two") + b"\x1f\0\0\0 trailing"
    pieces = [encoded[at : at + cut] for at in range(0, len(encoded), cut)]

    assert _decode(("gzip",), *pieces) == b"one,two"


@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_all_zstd_frames_are_decoded(cut: int) -> None:
    encoded = zstd.compress(b"one,") + zstd.compress(b"two")
    pieces = [encoded[at : at + cut] for at in range(0, len(encoded), cut)]

    assert _decode(("zstd",), *pieces) == b"one,two"


@pytest.mark.parametrize(("name", "member"), [("gzip", gzip.compress(b"", mtime=0)), ("zstd", zstd.compress(b""))])
def test_the_number_of_empty_members_is_bounded(name: str, member: bytes) -> None:
    with pytest.raises(BrokenCoding, match="more than 16384 members"):
        _decode((name,), member * 20_000)


def test_a_nested_bomb_without_output_is_too_large() -> None:
    nothing = gzip.compress(gzip.compress(b"") * 2_000_000, 9)

    with pytest.raises((CodingTooLarge, BrokenCoding)):
        _decode(("gzip", "gzip"), nothing, max_bytes=1000)


def test_a_zstd_window_over_8_mib_is_refused() -> None:
    stream = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    wide = stream.compress(PAGE) + stream.flush()

    with pytest.raises(BrokenCoding):
        _decode(("zstd",), wide)


def test_too_many_and_unknown_codings_are_refused() -> None:
    with pytest.raises(BrokenCoding, match="6 codings"):
        ContentDecoder(("gzip",) * 6, 1000)
    with pytest.raises(BrokenCoding, match="rot13"):
        ContentDecoder(("gzip", "rot13"), 1000)


def test_codings_of_all_fields_are_read_in_order() -> None:
    assert codings_of(["GZIP , identity", "", " br"]) == ("gzip", "br")
    assert codings_of([]) == ()
