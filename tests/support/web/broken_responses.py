"""Responses that violate HTTP/1.1 or test its limits, with their outcomes. From RFC 9110 and 9112."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from fetchq import FetchStatus

from .site import Handler, Visit

OK = FetchStatus.OK
HTTP_ERROR = FetchStatus.HTTP_ERROR
BAD = FetchStatus.BAD_RESPONSE
LARGE = FetchStatus.TOO_LARGE
TIMEOUT = FetchStatus.TIMEOUT
CONNECT = FetchStatus.CONNECT_ERROR

Then = Literal["keep", "close", "reset", "half-close"]


@dataclass(frozen=True)
class Broken:
    """A response, what the server then does with the connection, and the expected outcome."""

    name: str
    data: bytes
    status: FetchStatus
    body: bytes = b""
    then: Then = "keep"
    method: str = "GET"
    reusable: bool = False
    """Whether the connection may be reused."""

    def handler(self) -> Handler:
        async def respond(visit: Visit) -> None:
            try:
                await visit.send(self.data)
                match self.then:
                    case "close":
                        visit.writer.close()
                    case "reset":
                        await asyncio.sleep(0.02)  # the data first: a reset discards what is unread
                        visit.reset()
                    case "half-close":
                        visit.half_close()
                    case "keep":
                        pass
            except ConnectionError:
                visit.writer.close()  # the client has closed the connection

        return respond


_LINE = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _LINE + b"Transfer-Encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"


def _sized(body: bytes, *fields: bytes, length: bytes | None = None, line: bytes = _LINE) -> bytes:
    size = str(len(body)).encode() if length is None else length
    return line + b"".join(field + b"\r\n" for field in (*fields, b"Content-Length: " + size)) + b"\r\n" + body


def _coded(*codings: bytes, line: bytes = _LINE) -> bytes:
    fields = b"".join(b"Transfer-Encoding: " + coding + b"\r\n" for coding in codings)
    return line + fields + b"\r\n3\r\nabc\r\n" + _END


LENGTHS = [
    Broken("a second response follows", _sized(b"abc") + _sized(b"evil"), OK, b"abc"),
    Broken("more bytes than the length", _sized(b"abcdef", length=b"3"), OK, b"abc"),
    Broken("one byte more, as of another response", _sized(b"abcH", length=b"3"), OK, b"abc"),
    Broken("fewer bytes, then the end", _sized(b"abc", length=b"9"), BAD, then="close"),
    Broken("fewer bytes, then a reset", _sized(b"abc", length=b"9"), BAD, then="reset"),
    Broken("fewer bytes, then silence", _sized(b"abc", length=b"9"), TIMEOUT),
    Broken("two lengths that differ", _sized(b"abc", b"Content-Length: 2"), BAD),
    Broken("two lengths that agree", _sized(b"abc", b"Content-Length: 3"), OK, b"abc", reusable=True),
    Broken("a list of lengths", _sized(b"abc", length=b"3, 3"), OK, b"abc", reusable=True),
    Broken("a list of lengths that differ", _sized(b"abc", length=b"3, 2"), BAD),
    Broken("a list of a length and nothing", _sized(b"abc", length=b"3 ,3,"), OK, b"abc", reusable=True),
    Broken("a list of nothing", _sized(b"abc", length=b","), BAD),
    Broken("lengths that are written differently", _sized(b"abc", b"Content-Length: 003"), OK, b"abc", reusable=True),
    Broken("a folded length", _sized(b"abc", length=b"\r\n 3"), OK, b"abc", reusable=True),
    Broken("a length whose line is malformed", _sized(b"abc", b"Content-Length : 3"), BAD),
    Broken("a length that a bare carriage return splits", _sized(b"abc", b"Content-Length: 3\r4"), BAD),
    Broken("a negative length", _sized(b"abc", length=b"-3"), BAD),
    Broken("a signed length", _sized(b"abc", length=b"+3"), BAD),
    Broken("a hexadecimal length", _sized(b"abc", length=b"0x3"), BAD),
    Broken("a length of two numbers", _sized(b"abc", length=b"3 3"), BAD),
    Broken("an empty length", _sized(b"abc", length=b""), BAD),
    Broken("a length past 64 bits", _sized(b"abc", length=b"9" * 23), BAD),
    Broken("a length of 64 bits", _sized(b"abc", length=b"18446744073709551615"), LARGE),
    Broken("a length and chunks", _sized(b"3\r\nabc\r\n" + _END, b"Transfer-Encoding: chunked"), OK, b"abc"),
    Broken("until the end of the connection", _LINE + b"\r\nabc", OK, b"abc", then="close"),
    Broken("until the end, half-closed", _LINE + b"\r\nabc", OK, b"abc", then="half-close"),
    Broken("until the end, by a reset", _LINE + b"\r\nabc", BAD, then="reset"),
    Broken("a length, half-closed", _sized(b"abc"), OK, b"abc", then="half-close"),
    Broken("kept open despite close", _sized(b"abc", b"Connection: close"), OK, b"abc"),
    Broken("keep-alive and close", _sized(b"abc", b"Connection: keep-alive, close"), OK, b"abc"),
]

CHUNKS = [
    Broken("extensions", _CHUNKED + b'3;a="b";c\r\nabc\r\n' + _END, OK, b"abc", reusable=True),
    Broken("a long extension", _CHUNKED + b"3;" + b"a" * 100_000 + b"\r\nabc\r\n" + _END, OK, b"abc", reusable=True),
    Broken("trailers", _CHUNKED + b"3\r\nabc\r\n0\r\nX-A: b\r\n\r\n", OK, b"abc", reusable=True),
    Broken("twenty thousand of one byte", _CHUNKED + b"1\r\na\r\n" * 20_000 + _END, OK, b"a" * 20_000, reusable=True),
    Broken("an invalid size", _CHUNKED + b"zz\r\nabc\r\n" + _END, BAD),
    Broken("an invalid later size", _CHUNKED + b"3\r\nabc\r\nzz\r\n", BAD),
    Broken("no size", _CHUNKED + b"\r\nabc\r\n" + _END, BAD),
    Broken("a negative size", _CHUNKED + b"-3\r\nabc\r\n" + _END, BAD),
    Broken("a prefixed size", _CHUNKED + b"0x3\r\nabc\r\n" + _END, BAD),
    Broken("a size past 64 bits", _CHUNKED + b"f" * 17 + b"\r\nabc\r\n" + _END, BAD),
    Broken("a size of 64 bits", _CHUNKED + b"f" * 16 + b"\r\nabc\r\n", BAD, then="close"),
    Broken("more than the size", _CHUNKED + b"3\r\nabcd\r\n" + _END, BAD),
    Broken("bare line feeds", _CHUNKED + b"3\nabc\n0\n\n", OK, b"abc"),
    Broken("a bare line feed at the end", _CHUNKED + b"3\r\nabc\r\n0\r\n\n", OK, b"abc"),
    Broken("no last chunk", _CHUNKED + b"3\r\nabc\r\n", BAD, then="close"),
    Broken("half of the last chunk", _CHUNKED + b"3\r\nabc\r\n0\r\n", BAD, then="close"),
    Broken("no last chunk, then silence", _CHUNKED + b"3\r\nabc\r\n", TIMEOUT),
    Broken("a flood of trailers", _CHUNKED + b"3\r\nabc\r\n0\r\n" + b"X: y\r\n" * 50_000 + b"\r\n", LARGE),
    Broken("an endless trailer", _CHUNKED + b"3\r\nabc\r\n0\r\nX: " + b"y" * 300_000, LARGE),
    Broken("a trailer without colon", _CHUNKED + b"3\r\nabc\r\n0\r\nX\r\n\r\n", OK, b"abc"),
    Broken("a zero byte in a trailer", _CHUNKED + b"3\r\nabc\r\n0\r\nX: a\0b\r\n\r\n", BAD),
    Broken("a bare line feed in a trailer", _CHUNKED + b"3\r\nabc\r\n0\r\nX: a\nY: b\r\n\r\n", OK, b"abc"),
    Broken("a size that is padded", _CHUNKED + b"3  \r\nabc\r\n" + _END, OK, b"abc", reusable=True),
    Broken("a zero byte in an extension", _CHUNKED + b"3;a\0\r\nabc\r\n" + _END, BAD),
    Broken("an endless extension", _CHUNKED + b"3;" + b"a" * 300_000, LARGE),
    Broken("a size that is no number, then silence", _CHUNKED + b"zz", BAD),
    Broken("gzip before chunked", _coded(b"gzip, chunked"), BAD),
    Broken("gzip after chunked", _coded(b"chunked, gzip"), BAD, then="close"),
    Broken("gzip alone", _coded(b"gzip"), BAD, then="close"),
    Broken("identity", _LINE + b"Transfer-Encoding: identity\r\n\r\nabc", OK, b"abc", then="close"),
    Broken("identity and a length", _sized(b"abc", b"Transfer-Encoding: Identity"), OK, b"abc"),
    Broken("identity before chunked", _coded(b"identity, chunked"), OK, b"abc"),
    Broken("an unknown coding with a similar name", _coded(b"xchunked"), BAD, then="close"),
    Broken("in a list twice", _coded(b"chunked, chunked"), OK, b"abc"),
    Broken("with empty members", _coded(b", chunked,"), OK, b"abc", reusable=True),
    Broken("in capitals", _coded(b" Chunked\t"), OK, b"abc", reusable=True),
    Broken("an empty list", _sized(b"abc", b"Transfer-Encoding:"), OK, b"abc"),
    Broken("a space before the colon", _LINE + b"Transfer-Encoding : chunked\r\n\r\n3\r\nabc\r\n" + _END, BAD),
    Broken("gzip, with a space before the colon", _LINE + b"Transfer-Encoding : gzip, chunked\r\n\r\n", BAD),
    Broken("a control character in its name", _LINE + b"Transfer-Encoding\x0b: chunked\r\n\r\n", BAD),
    Broken("in quotes", _coded(b'"chunked"'), BAD),
    Broken("in two fields", _coded(b"chunked", b"chunked"), OK, b"abc"),
    Broken("in HTTP/1.0", _coded(b"chunked", line=b"HTTP/1.0 200 OK\r\n"), OK, b"abc"),
]

STATUS_LINES = [
    Broken("no reason", _sized(b"abc", line=b"HTTP/1.1 200\r\n"), OK, b"abc", reusable=True),
    Broken("line breaks before it", b"\r\n\r\n" + _sized(b"abc"), OK, b"abc", reusable=True),
    Broken("HTTP/1.0", _sized(b"abc", line=b"HTTP/1.0 200 OK\r\n"), OK, b"abc"),
    Broken(
        "HTTP/1.0 that is kept alive",
        _sized(b"abc", b"Connection: keep-alive", line=b"HTTP/1.0 200 OK\r\n"),
        OK,
        b"abc",
        reusable=True,
    ),
    Broken("HTTP/0.9", b"<html>hello</html>", BAD, then="close"),
    Broken("HTTP/0.9 that is kept open", b"<html>hello</html>", BAD),
    Broken("HTTP/9.9", _sized(b"abc", line=b"HTTP/9.9 200 OK\r\n"), OK, b"abc"),
    Broken("no version", _sized(b"abc", line=b"HTTP 200 OK\r\n"), BAD),
    Broken("no status", _sized(b"abc", line=b"HTTP/1.1\r\n"), BAD),
    Broken("a status of two digits", _sized(b"abc", line=b"HTTP/1.1 20 OK\r\n"), BAD),
    Broken("a status of four digits", _sized(b"abc", line=b"HTTP/1.1 2000 OK\r\n"), BAD),
    Broken("a negative status", _sized(b"abc", line=b"HTTP/1.1 -20 OK\r\n"), BAD),
    Broken("a status below 100", _sized(b"abc", line=b"HTTP/1.1 099 OK\r\n"), BAD),
    Broken("two spaces", _sized(b"abc", line=b"HTTP/1.1  200 OK\r\n"), OK, b"abc", reusable=True),
    Broken("a reason without a space", _sized(b"abc", line=b"HTTP/1.1 200OK\r\n"), OK, b"abc", reusable=True),
    Broken("a reason in Latin-1", _sized(b"abc", line=b"HTTP/1.1 200 D\xe9j\xe0\r\n"), OK, b"abc", reusable=True),
    Broken("a zero byte in the reason", _sized(b"abc", line=b"HTTP/1.1 200 O\0K\r\n"), BAD),
    Broken("a later minor version", _sized(b"abc", line=b"HTTP/1.2 200 OK\r\n"), OK, b"abc", reusable=True),
    Broken("a tab", _sized(b"abc", line=b"HTTP/1.1\t200 OK\r\n"), BAD),
    Broken("HTTP/2 as text", _sized(b"abc", line=b"HTTP/2 200\r\n"), OK, b"abc"),
    Broken("a space before it", b" " + _sized(b"abc"), BAD),
    Broken("lower case", _sized(b"abc", line=b"http/1.1 200 OK\r\n"), OK, b"abc", reusable=True),
    Broken("Shoutcast", _sized(b"abc", line=b"ICY 200 OK\r\n"), BAD),
    Broken("an endless reason", b"HTTP/1.1 200 " + b"x" * 300_000, LARGE),
    Broken("HTTP/2 frames", bytes.fromhex("000012040000000000000300000080000400010000"), BAD),
    Broken("a TLS alert", bytes.fromhex("15030100020246"), BAD),
    Broken("SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", BAD),
    Broken("SMTP", b"220 mail.example.org ESMTP\r\n", BAD),
]

FIELDS = [
    Broken("an obsolete fold", _sized(b"abc", b"X-A: one\r\n two"), OK, b"abc", reusable=True),
    Broken("bare line feeds", _sized(b"abc").replace(b"\r\n", b"\n"), OK, b"abc", reusable=True),
    Broken("control characters in a value", _sized(b"abc", b"X-A: \x01\x7f"), OK, b"abc", reusable=True),
    Broken("a bare carriage return", _sized(b"abc", b"X-A: a\rX-B: c"), OK, b"abc"),
    Broken("a zero byte in a value", _sized(b"abc", b"X-A: a\0b"), BAD),
    Broken("a zero byte in a name", _sized(b"abc", b"X\0A: b"), BAD),
    Broken("a line that begins with a carriage return", _sized(b"abc", b"\rX-A: b"), BAD),
    Broken("no colon", _sized(b"abc", b"X-A"), OK, b"abc"),
    Broken("no name", _sized(b"abc", b": x"), OK, b"abc"),
    Broken("a space in the name", _sized(b"abc", b"PHP Warning: x: y"), OK, b"abc"),
    Broken("a space before the colon", _sized(b"abc", b"X-A : x"), OK, b"abc"),
    Broken("brackets in a name", _sized(b"abc", b"X-A[]: 1"), OK, b"abc"),
    Broken("a slash in a name", _sized(b"abc", b"X/A: 1"), OK, b"abc"),
    Broken("an at sign in a name", _sized(b"abc", b"@id: 1"), OK, b"abc"),
    Broken("a name in UTF-8", _sized(b"abc", b"Gr\xc3\xb6\xc3\x9fe: 1"), OK, b"abc"),
    Broken("a tag in place of a field", _sized(b"abc", b"<b>Warning</b>"), OK, b"abc"),
    Broken("white space after the status line", _sized(b"abc", b" X-A: b"), OK, b"abc"),
    Broken("a length with white space after the status line", _LINE + b" Content-Length: 3\r\n\r\nabc", BAD),
    Broken(
        "line ends with two carriage returns", _sized(b"abc").replace(b"\r\n", b"\r\r\n"), OK, b"abc", reusable=True
    ),
    Broken("a field of 20 KB", _sized(b"abc", b"X-A: " + b"x" * 20_000), OK, b"abc", reusable=True),
    Broken("a thousand fields", _sized(b"abc", *[b"X-A: b"] * 1000), OK, b"abc", reusable=True),
    Broken("fifty thousand fields", _sized(b"abc", *[b"X-A: b"] * 50_000), LARGE),
    Broken("an endless value", _LINE + b"X-A: " + b"x" * 300_000, LARGE),
    Broken("an endless name", _LINE + b"x" * 300_000, LARGE),
    Broken("the head truncated", _LINE + b"X-A: b", BAD, then="close"),
    Broken("the head truncated by a reset", _LINE + b"X-A: b", BAD, then="reset"),
    Broken("the status line truncated", b"HTTP/1.", BAD, then="close"),
    Broken("the head, then silence", _LINE + b"X-A: b\r\n", TIMEOUT),
    Broken("nothing, then the end", b"", CONNECT, then="close"),
    Broken("nothing, then a half-close", b"", CONNECT, then="half-close"),
    Broken("nothing", b"", TIMEOUT),
]

_HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

BODILESS = [
    Broken("early hints", _HINT * 3 + _sized(b"abc"), OK, b"abc", reusable=True),
    Broken("endless early hints", _HINT * 5000, BAD),
    Broken("early hints, then silence", _HINT, TIMEOUT),
    Broken("an unsolicited 100", b"HTTP/1.1 100 Continue\r\n\r\n" + _sized(b"abc"), OK, b"abc", reusable=True),
    Broken("101", b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", BAD),
    Broken("204", b"HTTP/1.1 204 None\r\n\r\n", OK, reusable=True),
    Broken("204 with a body", _sized(b"abc", line=b"HTTP/1.1 204 None\r\n"), OK),
    Broken("204 with chunks", _coded(b"chunked", line=b"HTTP/1.1 204 None\r\n"), OK),
    Broken("304 with a length", b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n", HTTP_ERROR, reusable=True),
    Broken("304 with a body", _sized(b"abc", line=b"HTTP/1.1 304 Same\r\n"), HTTP_ERROR),
    Broken("HEAD", _LINE + b"Content-Length: 9\r\n\r\n", OK, method="HEAD", reusable=True),
    Broken("HEAD with a body", _sized(b"abc"), OK, method="HEAD"),
    Broken("HEAD with chunks", _CHUNKED + b"3\r\nabc\r\n" + _END, OK, method="HEAD"),
]

TABLES = {
    "lengths": LENGTHS,
    "chunks": CHUNKS,
    "status lines": STATUS_LINES,
    "header fields": FIELDS,
    "interim and bodiless responses": BODILESS,
}
