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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest, FetchStatus, RetryPolicy
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.content import inflate
from fetchq_worker.fetch.content.encoding import ContentDecoder, codings_of
from fetchq_worker.fetch.content.errors import BrokenCoding, CodingTooLarge

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


@pytest.mark.parametrize("pieces", [1, 1 << 20])
@pytest.mark.parametrize("after", [b"\0" * 64, b"\n", b"<!-- x -->", b"\x28\xb5", b"\x51\x2a\x4d\x18\x01\0\0\0x"])
def test_what_follows_a_zstd_frame_and_is_none_is_ignored(after: bytes, pieces: int) -> None:
    assert _decode_pieces("zstd", zstd.compress(b"one") + after, pieces) == b"one"


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


def test_too_many_codings_are_refused() -> None:
    with pytest.raises(BrokenCoding, match="6 codings"):
        ContentDecoder(("gzip",) * 6, 1000)


@pytest.mark.parametrize(
    ("fields", "codings"),
    [
        (("GZIP , identity", "", " br"), ("gzip", "br")),
        (("\tgzip,, ,x-gzip\t,",), ("gzip", "x-gzip")),
        (("identity",), ()),
        (("",), ()),
        ((), ()),
        (("utf-8",), ()),
        (("gzip, aws-chunked",), ()),
        (("compress", "gzip"), ()),
        (("gzip;q=1",), ()),
        (("gzip\xa0",), ()),
    ],
)
def test_the_codings_of_all_fields_are_read_and_an_unknown_one_turns_decoding_off(
    fields: tuple[str, ...], codings: tuple[str, ...]
) -> None:
    assert codings_of(fields) == codings


UNKNOWN = ["utf-8", "none", "binary", "8bit", "iso-8859-1", "aws-chunked", "compress", "x-compress", "*", "gzip, rot13"]


@pytest.mark.asyncio
@pytest.mark.parametrize("name", UNKNOWN)
@pytest.mark.parametrize(("status", "outcome"), [(200, FetchStatus.OK), (404, FetchStatus.HTTP_ERROR)])
async def test_a_body_of_an_unknown_coding_is_shown_as_it_is(
    site: Site, fetcher: Fetcher, name: str, status: int, outcome: FetchStatus
) -> None:
    answer = http_response(b"hello world", status=status, headers={"Content-Encoding": name})

    result = await fetch(
        {"fetcher": fetcher}, FetchRequest(url=site.serve("/", answer), retry=RetryPolicy(max_tries=1))
    )

    assert (result.status, result.body) == (outcome, b"hello world")


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd", "utf-8", "gzip, compress"])
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_a_response_without_a_body_has_nothing_to_decode(
    site: Site, fetcher: Fetcher, name: str, method: str, status: int
) -> None:
    answer = http_response(status=status, headers={"Content-Encoding": name}, length=False)
    request = FetchRequest(url=site.serve("/", answer), method=method, etag='"1"', retry=RetryPolicy(max_tries=1))

    result = await fetch({"fetcher": fetcher}, request)

    assert (result.http_status, result.body) == (status, b"")
    assert result.ok


@pytest.fixture(params=["isal", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both libraries that inflate: isal, and zlib where there is no isal."""
    if request.param == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setattr(inflate, "_zlib", zlib)
    return str(request.param)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("pieces", [1, 7, 1 << 20])
@pytest.mark.parametrize("missing", range(1, 9))
def test_a_gzip_body_that_lacks_only_its_trailer_is_decoded(missing: int, pieces: int) -> None:
    encoded = gzip.compress(PAGE)[:-missing]

    assert _decode_pieces("gzip", encoded, pieces) == PAGE


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("missing", range(1, 5))
def test_a_deflate_body_that_lacks_only_its_checksum_is_decoded(missing: int) -> None:
    assert _decode_pieces("deflate", zlib.compress(PAGE)[:-missing], 3) == PAGE


def _flushed(wbits: int) -> bytes:
    """A stream that its server flushes and never ends."""
    stream = zlib.compressobj(wbits=wbits)
    return stream.compress(PAGE) + stream.flush(zlib.Z_SYNC_FLUSH)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("pieces", [1, 7, 1 << 20])
@pytest.mark.parametrize(("name", "wbits"), [("gzip", 31), ("deflate", 15), ("deflate", -15)])
def test_a_stream_that_is_flushed_but_not_ended_is_decoded(name: str, wbits: int, pieces: int) -> None:
    assert _decode_pieces(name, _flushed(wbits), pieces) == PAGE
    with pytest.raises(BrokenCoding, match="truncated"):
        _decode_pieces(name, _flushed(wbits)[:-1], pieces)


def _gzip_with(flags: int, extra: bytes, body: bytes) -> bytes:
    return b"\x1f\x8b\x08" + bytes([flags]) + bytes(6) + extra + gzip.compress(body, mtime=0)[10:]


GOOD_GZIP = {
    "a file name": _gzip_with(8, b"page.html\0", PAGE),
    "an extra field, a name, a comment and a checksum": _gzip_with(30, b"\x03\0abcname\0comment\0\x12\x34", PAGE),
    "zero padding": gzip.compress(PAGE) + bytes(512),
    "a line end after it": gzip.compress(PAGE) + b"\r\n",
    "markup after it": gzip.compress(PAGE) + b"<!-- served in 3 ms -->",
    "an empty member after it": gzip.compress(PAGE) + gzip.compress(b""),
    "the beginning of a member that is none": gzip.compress(PAGE) + b"\x1f\x8b\x07\0\0\0\0\0\0\0",
    "two members": gzip.compress(PAGE[:1000]) + gzip.compress(PAGE[1000:]),
    "two members, the last without trailer": gzip.compress(PAGE[:1000]) + gzip.compress(PAGE[1000:])[:-8],
}


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("pieces", [1, 1000, 1 << 20])
@pytest.mark.parametrize("encoded", GOOD_GZIP.values(), ids=GOOD_GZIP.keys())
def test_an_unusual_gzip_body_is_decoded(encoded: bytes, pieces: int) -> None:
    assert _decode_pieces("gzip", encoded, pieces) == PAGE


_SMALL = gzip.compress(b"some text", mtime=0)
BAD_CODINGS = {
    "plain text": ("gzip", b"<p>not compressed</p>"),
    "one byte": ("gzip", b"\x1f"),
    "half a header": ("gzip", _SMALL[:7]),
    "no data": ("gzip", _SMALL[:10]),
    "cut in the data": ("gzip", _SMALL[:-9]),
    "wrong checksum": ("gzip", _SMALL[:-8] + b"\0\0\0\0" + _SMALL[-4:]),
    "wrong size": ("gzip", _SMALL[:-4] + b"\x01\0\0\0"),
    "a reserved flag": ("gzip", b"\x1f\x8b\x08\x80" + _SMALL[4:]),
    "an endless name": ("gzip", b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 200_000),
    "a second member cut in its header": ("gzip", _SMALL + _SMALL[:5]),
    "a second member cut in its data": ("gzip", _SMALL + _SMALL[:-9]),
    "a wrong zlib checksum": ("deflate", zlib.compress(b"some text")[:-1] + b"\0"),
    "a zlib dictionary": ("deflate", b"\x78\xbb\0\0\0\0"),
    "plain text as deflate": ("deflate", b"<p>not compressed</p>"),
    "plain text as br": ("br", b"<p>not compressed</p>"),
    "plain text as zstd": ("zstd", b"<p>not compressed</p>"),
}


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("pieces", [1, 1 << 20])
@pytest.mark.parametrize(("name", "encoded"), BAD_CODINGS.values(), ids=BAD_CODINGS.keys())
def test_a_body_that_is_corrupt_in_a_known_coding_is_refused(name: str, encoded: bytes, pieces: int) -> None:
    with pytest.raises(BrokenCoding):
        _decode_pieces(name, encoded, pieces)


@pytest.mark.usefixtures("library")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=3000), cut=st.integers(1, 50), which=st.sampled_from(["gzip", "zlib", "raw deflate"]))
def test_both_libraries_decode_pieces_of_any_size(data: bytes, cut: int, which: str) -> None:
    name, encode = ENCODERS[which]

    assert _decode_pieces(name, encode(data), cut) == data


def _decode_pieces(name: str, encoded: bytes, size: int) -> bytes:
    return _decode((name,), *(encoded[at : at + size] for at in range(0, len(encoded), size)))
