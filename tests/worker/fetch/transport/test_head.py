"""The head of a response: which fields it has, and where its body ends."""

from __future__ import annotations

import pytest

from fetchq_worker.fetch.transport import head as module
from fetchq_worker.fetch.transport.errors import ResponseMalformed
from fetchq_worker.fetch.transport.head import Head, may_become_head, parse_head


def _head(*lines: bytes, status_line: bytes = b"HTTP/1.1 200 OK", end: bytes = b"\r\n") -> Head:
    return parse_head(end.join([status_line, *lines, b"", b""]))


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r\r\n"])
def test_fields_are_read_in_their_order_whatever_ends_the_lines(end: bytes) -> None:
    head = _head(b"Set-Cookie: a=1", b"X-A:b", b"set-cookie: \tb=2 ", end=end)

    assert head.headers.items() == [("Set-Cookie", "a=1"), ("X-A", "b"), ("set-cookie", "b=2")]
    assert (head.status, head.length, head.chunked, head.problem, head.keep_alive) == (200, None, False, None, True)


MALFORMED = [
    b"PHP Warning: x: y",
    b"Access-Control-Allow-Credentials : true",
    b"X-A[]: 1",
    b"X/A: 1",
    b"@id: 1",
    "Größe: 1".encode(),
    b": x",
    b"X",
    b"<br />",
    b"X-A: b\rc",
]


@pytest.mark.parametrize("line", MALFORMED)
@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_malformed_line_costs_its_field_and_the_reuse_of_the_connection(line: bytes, where: int) -> None:
    lines = [b"Content-Length: 3", b"X-Z: z"]
    lines.insert(where, line)

    head = _head(*lines)

    assert head.headers.items() == [("Content-Length", "3"), ("X-Z", "z")]
    assert (head.length, head.problem, head.keep_alive) == (3, None, False)


def test_a_fold_becomes_a_space_and_one_after_the_status_line_is_skipped() -> None:
    head = _head(b" X-A: 1", b"\tX-B: 2", b"X-C: one", b" \t two", b"\tthree", b"X-D: 4")

    assert head.headers.items() == [("X-C", "one two three"), ("X-D", "4")]
    assert not head.keep_alive


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length : 3",
        b" Content-Length: 3",
        b"Transfer-Encoding : gzip, chunked",
        b"Transfer-Encoding\t: chunked",
        b'"Transfer-Encoding": chunked',
        b"transfer-encoding\xa0: chunked",
        b"Transfer-Encoding",
        b"Content-Length: 3\r4",
    ],
)
def test_a_malformed_line_that_may_frame_the_body_is_refused(line: bytes) -> None:
    with pytest.raises(ResponseMalformed, match=r"^the (content-length|transfer-encoding) field .* is malformed$"):
        _head(line, b"X-A: b")


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 O\0K\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-A: \0\r\n\r\n"])
def test_a_zero_byte_is_refused(head: bytes) -> None:
    with pytest.raises(ResponseMalformed, match="zero byte"):
        parse_head(head)


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ([b"Content-Length: 11", b"Content-Length: 11"], 11),
        ([b"Content-Length: 11, 11"], 11),
        ([b"Content-Length: 11 ,\t0011"], 11),
        ([b"content-length:0"], 0),
    ],
)
def test_equal_lengths_are_one(lines: list[bytes], length: int) -> None:
    head = _head(*lines)
    assert (head.length, head.problem, head.keep_alive) == (length, None, True)


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 11", b"Content-Length: 12"],
        [b"Content-Length: 11, 12"],
        [b"Content-Length: ,"],
        [b"Content-Length:"],
        [b"Content-Length: +1"],
        [b"Content-Length: 1_1"],
        [b"Content-Length: 0x1"],
        [b"Content-Length: 1.0"],
        [b"Content-Length: \xb2"],
        [b"Content-Length: 18446744073709551616"],
        [b"Content-Length: " + b"9" * 5000],
    ],
)
def test_other_lengths_are_a_problem_of_the_body(lines: list[bytes]) -> None:
    head = _head(*lines)
    assert head.length is None
    assert head.problem is not None
    assert not head.keep_alive


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"\tchunked ", b"chunked,", b", ,chunked", b"\r\n chunked"])
def test_the_coding_chunked_is_read(value: bytes) -> None:
    head = _head(b"Transfer-Encoding:" + value)
    assert (head.chunked, head.problem, head.keep_alive) == (True, None, True)


@pytest.mark.parametrize(
    "value", [b"gzip", b"gzip, chunked", b"chunked, gzip, chunked", b"chunked;a=b", b"xchunked", b"identity, x"]
)
def test_any_other_coding_is_a_problem(value: bytes) -> None:
    assert _head(b"Transfer-Encoding: " + value).problem is not None


@pytest.mark.parametrize("value", [b"", b",", b"identity", b"Identity,"])
def test_no_coding_leaves_the_length_and_costs_the_reuse_of_the_connection(value: bytes) -> None:
    head = _head(b"Transfer-Encoding: " + value, b"Content-Length: 3")
    assert (head.chunked, head.length, head.problem, head.keep_alive) == (False, 3, None, False)


@pytest.mark.parametrize("value", [b"chunked, chunked", b"chunked\r\nTransfer-Encoding: chunked"])
def test_the_coding_chunked_that_is_named_twice_is_one_and_costs_the_reuse_of_the_connection(value: bytes) -> None:
    head = _head(b"Transfer-Encoding: " + value)
    assert (head.chunked, head.problem, head.keep_alive) == (True, None, False)


def test_chunked_overrides_a_length_and_ends_the_reuse() -> None:
    head = _head(b"Content-Length: 3", b"Transfer-Encoding: chunked")
    assert (head.chunked, head.length, head.problem, head.keep_alive) == (True, None, None, False)


@pytest.mark.parametrize(
    ("minor", "fields", "keep_alive"),
    [
        (b"1", [], True),
        (b"0", [], False),
        (b"0", [b"Connection: keep-alive"], True),
        (b"0", [b"Connection: Keep-Alive, x"], True),
        (b"1", [b"Connection: close"], False),
        (b"1", [b"Connection: x, CLOSE"], False),
        (b"1", [b"Connection: close", b"Connection: keep-alive"], False),
        (b"1", [b"Connection: x"], True),
        (b"9", [], True),
    ],
)
def test_the_connection_is_kept_by_version_and_options(minor: bytes, fields: list[bytes], keep_alive: bool) -> None:
    assert _head(*fields, status_line=b"HTTP/1." + minor + b" 200 OK").keep_alive is keep_alive


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.1 200", 200),
        (b"HTTP/1.1 200 ", 200),
        (b"HTTP/1.1   404 Not Found", 404),
        (b"HTTP/1.0 999 \xe9", 999),
        (b"HTTP/1.1 200OK", 200),
        (b"HTTP/2.0 404 Not Found", 404),
        (b"HTTP/2 200", 200),
        (b"http/1.1 200 ok", 200),
    ],
)
def test_a_status_line_that_curl_reads_is_read(line: bytes, status: int) -> None:
    assert _head(status_line=line).status == status
    assert may_become_head(line + b"\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/0.9 200",
        b"HTTP/1.1 2000",
        b"HTTP/1.1 20",
        b"HTTP/1.1 099",
        b"HTTP/1. 200",
        b"HTTP/1.1\t200",
        b"ICY 200",
        b" HTTP/1.1 200",
    ],
)
def test_any_other_status_line_is_refused_as_soon_as_it_is_there(line: bytes) -> None:
    with pytest.raises(ResponseMalformed, match=r"^the response is not well-formed HTTP$"):
        _head(status_line=line)
    assert not may_become_head(line + b"\r\n")


def test_the_beginning_of_a_status_line_may_become_one() -> None:
    line = b"HTTP/1.1 200 OK"
    assert all(may_become_head(line[:size]) for size in range(len(line)))
    assert not may_become_head(b"HTTX")
    assert not may_become_head(b"HTTP/1.1" + b" " * 100)


def test_many_different_lines_are_read_with_a_bounded_memo() -> None:
    lines = [b"X-%d: %d" % (number, number) for number in range(5000)]
    assert len(_head(*lines).headers) == 5000
    assert len(module._fields_of_lines) <= module._MAX_MEMO
