"""`python -m harness.http.differential`: damaged responses, read by this client and by the one before it.

Each response is given to both whole, and to this client byte by byte too. The outcomes must be the same, or differ for
a listed reason. Prints the count of each reason, and every difference without one. The responses are the rows of
`broken_responses` and valid ones, damaged at random, by a seed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeVar, cast

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from tests.support.web.broken_responses import TABLES

from fetchq_worker.fetch.transport.connection import Connection
from fetchq_worker.fetch.transport.errors import BodyBroken, ConnectionBroken, HeadTooLarge, ResponseMalformed
from fetchq_worker.fetch.transport.response import Response

from .reference_client import ConnectionProtocol, is_head_too_large

_T = TypeVar("_T")
_TIMEOUT_S: Final = 60.0


class Case(NamedTuple):
    """A response, and how the server then ends the connection."""

    data: bytes
    then: str
    method: str


class Outcome(NamedTuple):
    """What a client made of it."""

    word: str
    status: int | None = None
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    is_reusable: bool = False


class Wire(asyncio.Transport):
    """A transport without a socket."""

    def __init__(self) -> None:
        super().__init__()
        self.is_over = False

    def write(self, data: Any) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.is_over

    def close(self) -> None:
        self.is_over = True

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class NoPool:
    """Counts what comes back."""

    def __init__(self) -> None:
        self.idle = 0

    def opened(self, connection: Connection) -> None:
        pass

    closed = opened

    def put(self, connection: Connection) -> None:
        self.idle += 1


class Waits(Exception):
    """The client waits for more."""


def _now(waiting: Awaitable[_T]) -> _T:
    """What an awaitable returns without waiting; raises `Waits` if it would wait."""
    coroutine = waiting.__await__()
    try:
        next(coroutine)
    except StopIteration as ended:
        return cast(_T, ended.value)
    raise Waits


def read_by_ours(case: Case, *, by_bytes: bool) -> Outcome:
    pool, wire = NoPool(), Wire()
    connection = Connection(asyncio.get_running_loop(), pool)
    connection.connection_made(wire)
    waiter = connection.send(b"", None, _TIMEOUT_S, case.method)
    for piece in [case.data[at : at + 1] for at in range(len(case.data))] if by_bytes else [case.data]:
        if wire.is_over:
            break
        connection.data_received(piece)
    if case.then != "keep":
        connection.connection_lost(ConnectionResetError() if case.then == "reset" else None)
    try:
        return _outcome_of_ours(waiter, is_reusable=connection.is_usable() and pool.idle > 0)
    finally:
        connection.abort()


def _outcome_of_ours(waiter: asyncio.Future[Response], *, is_reusable: bool) -> Outcome:
    try:
        response = _now(waiter)
    except Waits:
        return Outcome("waits")
    except ResponseMalformed:
        return Outcome("malformed")
    except HeadTooLarge:
        return Outcome("too large")
    except ConnectionBroken:
        return Outcome("broken")
    made = Outcome("ok", response.status, headers=tuple(response.headers.items()), is_reusable=is_reusable)
    body = b""
    try:
        while chunk := _now(response.readany()):
            body += chunk
    except Waits:
        return Outcome("waits in the body", response.status)
    except BodyBroken:
        return Outcome("broken body", response.status)
    except HeadTooLarge:
        return Outcome("too large", response.status)
    return made._replace(body=body)


def read_by_reference(case: Case) -> Outcome:
    wire = Wire()
    protocol = ConnectionProtocol(asyncio.get_running_loop())
    protocol.connection_made(wire)
    protocol.send_request(b"", None, _TIMEOUT_S, bodiless=case.method == "HEAD")
    if case.data:
        protocol.data_received(case.data)
    if case.then != "keep":
        protocol.eof_received()
        protocol.connection_lost(ConnectionResetError() if case.then == "reset" else None)
    try:
        return _outcome_of_reference(protocol)
    finally:
        protocol.connection_lost(None)


def _outcome_of_reference(protocol: ConnectionProtocol) -> Outcome:
    status = None
    try:
        message, content = _now(protocol.read())
        status = message.code
        body = b""
        while chunk := _now(content.readany()):
            body += chunk
    except Waits:
        return Outcome("waits" if status is None else "waits in the body", status)
    except HeadTooLarge:
        return Outcome("too large", status)
    except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        return Outcome("broken" if status is None else "broken body", status)
    except (ResponseMalformed, HttpProcessingError, ValueError) as problem:
        too_large = problem.__cause__ is not None and is_head_too_large(problem.__cause__)
        return Outcome("too large" if too_large or is_head_too_large(problem) else "malformed", status)
    headers = tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.raw_headers])
    return Outcome("ok", status, body, headers, protocol.transport is not None and protocol.park())


# Why the outcomes may differ. Each reason is looked for in the bytes of the response.

_HEAD: Final = re.compile(rb"\A[\r\n]*(.*?)(?:\n\r{0,2}\n|\Z)", re.DOTALL)
_FIELD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\0\r]*")
_SIZED: Final = re.compile(rb"(?i)content-length|transfer-encoding")
_LONG_BYTES: Final = 16 << 10
_MANY_FIELDS: Final = 256


def _head(case: Case) -> bytes:
    found = _HEAD.match(case.data)
    return b"" if found is None else found[1]


def _lines(case: Case) -> list[bytes]:
    return [line.rstrip(b"\r") for line in _head(case).split(b"\n")[1:]]


REASONS: Final[dict[str, Callable[[Case, Outcome, Outcome], bool]]] = {
    "a zero byte in head or trailers is refused": lambda case, ours, theirs: ours.word != "ok" and b"\0" in case.data,
    "a line that begins with a carriage return is refused": lambda case, ours, theirs: (
        ours.word == "malformed" and re.search(rb"\n\r+[^\r\n]", case.data) is not None
    ),
    "a malformed line that may frame the body is refused": lambda case, ours, theirs: (
        ours.word == "malformed"
        and any(_SIZED.search(line) and not _FIELD.fullmatch(line.rstrip(b"\r")) for line in case.data.split(b"\n")[1:])
    ),
    "a malformed line costs its field": lambda case, ours, theirs: any(
        not _FIELD.fullmatch(line) for line in _lines(case)
    ),
    "a line in interim heads, chunks or trailers that curl reads": lambda case, ours, theirs: (
        theirs.word in ("malformed", "broken body")
        and any(not _FIELD.fullmatch(line.rstrip(b"\r")) for line in case.data.split(b"\n")[1:])
    ),
    "a status line that curl reads": lambda case, ours, theirs: (
        theirs.word == "malformed"
        and re.match(rb"[\r\n]*HTTP/1\.[0-9] +[1-9][0-9][0-9](?![0-9])", case.data) is not None
    ),
    "line breaks of any number before a response": lambda case, ours, theirs: case.data[:1] in (b"\r", b"\n"),
    "a status line that is not HTTP/1 is refused": lambda case, ours, theirs: (
        ours.word == "malformed" and re.match(rb"HTTP/1\.[0-9] +[1-9][0-9][0-9](?![0-9])", case.data) is None
    ),
    "heads are bounded as a whole": lambda case, ours, theirs: (
        theirs.word == "too large"
        and (len(_head(case)) > _LONG_BYTES or case.data.count(b"\n") > _MANY_FIELDS or len(case.data) > _LONG_BYTES)
    ),
    "a chunk is as long as its size": lambda case, ours, theirs: (
        ours.word == "broken body" and theirs.word in ("ok", "waits in the body") and b"chunked" in _head(case)
    ),
    "what follows a response ends the connection, line breaks too": lambda case, ours, theirs: (
        ours._replace(is_reusable=True) == theirs and case.data.endswith((b"\r", b"\n"))
    ),
    "a bare carriage return in a length is refused": lambda case, ours, theirs: (
        ours.word == "malformed" and re.search(rb"(?i)content-length[^\n]*\r[^\r\n]", case.data) is not None
    ),
    "a coding that is not exactly chunked is refused": lambda case, ours, theirs: (
        ours.word == "malformed" and re.search(rb"(?i)transfer-encoding:", _head(case)) is not None
    ),
    "white space around the coding": lambda case, ours, theirs: (
        re.search(rb"(?i)transfer-encoding:[ \t]*chunked[ \t]+\r?\n", case.data) is not None
    ),
    "a length of more than 63 bits": lambda case, ours, theirs: re.search(rb":[ \t]*[0-9]{19}", case.data) is not None,
    "several or odd lengths or codings": lambda case, ours, theirs: (
        len(_SIZED.findall(_head(case))) > 1 or b"," in _head(case)
    ),
}


def reason_of(case: Case, ours: Outcome, theirs: Outcome) -> str | None:
    return next((reason for reason, holds in REASONS.items() if holds(case, ours, theirs)), None)


# The responses.

_VALID: Final = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11\r\nConnection: keep-alive\r\n\r\nhello world",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX-T: a\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nServer: a/1\r\n\r\nhello world",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nDate: Sat, 28 Nov 2026 11:00:00 GMT\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-A: one\r\n two\r\nContent-Length: 3\r\n\r\nabc",
]
_PIECES: Final = [
    *(b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"\x0b", b"\x80", b"0", b"9", b"\r\n\r\n", b"\n\n"),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"chunked", b"HTTP/1.1 "),
]


def damaged(draw: random.Random) -> Case:
    seeds = [(case.data, case.then, case.method) for cases in TABLES.values() for case in cases]
    if draw.random() < 0.3:
        data, then, method = draw.choice(seeds)
        then = "close" if then == "half-close" else then
    else:
        data, then, method = draw.choice(_VALID), draw.choice(("keep", "close", "reset")), "GET"
    if len(data) > 2000:  # slow byte by byte, and damage would seldom matter
        data = data[:2000]
    changed = bytearray(data)
    for _ in range(draw.choice((0, 1, 1, 1, 2, 3))):
        at = draw.randrange(len(changed) + 1)
        match draw.randrange(4):
            case 0:
                changed[at : at + draw.randrange(1, 5)] = b""
            case 1:
                changed[at:at] = draw.choice(_PIECES)
            case 2:
                changed[at : at + 1] = draw.randbytes(1)
            case _:
                changed[at:at] = changed[draw.randrange(len(changed) + 1) :][: draw.randrange(1, 40)]
    return Case(bytes(changed), then, "HEAD" if method == "HEAD" else "GET")


def compare(case: Case) -> tuple[str, list[Outcome]]:
    """The reason of a difference (empty: there is none, `?`: it has none), and the three outcomes."""
    ours, by_bytes, theirs = (
        read_by_ours(case, by_bytes=False),
        read_by_ours(case, by_bytes=True),
        read_by_reference(case),
    )
    outcomes = [ours, by_bytes, theirs]
    if ours != by_bytes:
        return "?", outcomes
    if ours == theirs or (ours.word, ours.body) == (theirs.word, theirs.body) == (ours.word, b""):
        return "", outcomes
    return reason_of(case, ours, theirs) or "?", outcomes


async def _run(number: int, seed: int) -> int:
    # The reference leaves futures behind that nobody awaits.
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    draw = random.Random(seed)
    counted: Counter[str] = Counter()
    for _ in range(number):
        case = damaged(draw)
        reason, outcomes = compare(case)
        counted[reason] += 1
        if reason == "?":
            print(f"{case}\n  whole     {outcomes[0]}\n  by bytes  {outcomes[1]}\n  reference {outcomes[2]}")
    print(f"{number} responses, seed {seed}: {counted.pop('', 0)} read alike")
    for reason, count in counted.most_common():
        print(f"{count:8}  {'unexplained' if reason == '?' else reason}")
    return 1 if counted["?"] else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.http.differential", description=__doc__)
    parser.add_argument("--number", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    return asyncio.run(_run(options.number, options.seed))


if __name__ == "__main__":
    raise SystemExit(main())
