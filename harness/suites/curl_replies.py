"""`python -m harness.suites.curl_replies CHECKOUT`: the replies of curl's own tests, read by this client and by curl.

Each `<data...>` part of a `<reply>` in tests/data that is an HTTP/1 response is served on loopback, then the connection
is closed. Compared are status and decoded body. Prints each difference. Exits with status 1 if a status or a body
differs where both read the response.
"""

from __future__ import annotations

import asyncio
import base64
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from fetchq import FetchRequest, FetchStatus, RetryPolicy
from fetchq_worker.fetch import Fetcher, fetch

_PART: Final = re.compile(r"<(data(?!check)[0-9]*)([^>\n]*)>\n(.*?)</\1>", re.DOTALL)
_CHARACTERS: Final = {"CR": "\r", "LF": "\n", "SP": " ", "TAB": "\t", "NUL": "\0"}
_READ: Final = frozenset({FetchStatus.OK, FetchStatus.HTTP_ERROR, FetchStatus.NOT_MODIFIED})
_TIMEOUT_S: Final = 3
_MAX_BYTES: Final = 32 << 20
_AT_ONCE: Final = 8


class Reply(NamedTuple):
    name: str
    data: bytes


class Reading(NamedTuple):
    """What a client made of a reply: status and body, or why it did not read it."""

    status: int | None
    body: bytes = b""
    error: str = ""


def read_replies(folder: Path) -> Iterator[Reply]:
    for path in sorted(folder.glob("test[0-9]*")):
        text = path.read_text("latin-1")
        if "<reply>" not in text:
            continue
        text = _expanded(text[text.index("<reply>") : text.index("</reply>")])
        for number, (part, attributes, content) in enumerate(_PART.findall(text)):
            data = _data(attributes, content)
            if data.startswith(b"HTTP/1") or (part == "data" and data[:5] == b"HTTP/"):
                yield Reply(f"{path.name}/{part}{f'-{number}' if number else ''}", data)


def _expanded(text: str) -> str:
    """The text with curl's macros replaced that make bytes; conditions are taken as true."""
    text = re.sub(r"^%if [^\n]*\n(.*?)(?:^%else\n.*?)?^%endif\n", r"\1", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"%hex\[(.*?)\]hex%", lambda found: _unquoted(found[1]), text, flags=re.DOTALL)
    text = re.sub(r"%b64\[(.*?)\]b64%", lambda found: _encoded(found[1]), text, flags=re.DOTALL)
    text = re.sub(
        r"%repeat\[(\d+) x (.*?)\]%", lambda found: int(found[1]) * _unquoted(found[2]), text, flags=re.DOTALL
    )
    return re.sub(r"%(CR|LF|SP|TAB|NUL)\b", lambda found: _CHARACTERS[found[1]], text)


def _unquoted(text: str) -> str:
    text = text.replace("\\r", "\r").replace("\\n", "\n")
    return re.sub("%([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), text)


def _encoded(text: str) -> str:
    return base64.b64encode(_unquoted(text).encode("latin-1")).decode()


def _data(attributes: str, content: str) -> bytes:
    if 'base64="yes"' in attributes:
        return base64.b64decode(content)
    if 'hex="yes"' in attributes:
        return bytes.fromhex(content)
    if 'nonewline="yes"' in attributes:
        content = content.removesuffix("\n")
    if 'crlf="yes"' in attributes:
        content = content.replace("\r\n", "\n").replace("\n", "\r\n")
    elif 'crlf="headers"' in attributes:
        lines = content.split("\n")
        is_head = True
        for number, line in enumerate(lines[:-1]):
            # An interim response has another head after it.
            is_head = is_head or re.match(r"HTTP/[0-9.]+ [0-9]{3}", line) is not None
            if is_head:
                lines[number] = line.removesuffix("\r") + "\r"
                is_head = line.strip("\r") != ""
        content = "\n".join(lines)
    return content.encode("latin-1")


class ReplyServer:
    """Serves one reply on loopback, to each connection."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self._data)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has closed the connection
        finally:
            writer.close()


async def read_by_curl(url: str) -> Reading:
    with tempfile.NamedTemporaryFile() as file:
        process = await asyncio.create_subprocess_exec(
            *("curl", "-q", "--silent", "--compressed", "--max-time", str(_TIMEOUT_S), "--noproxy", "*"),
            *("--output", file.name, "--write-out", "%{http_code}", url),
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await process.communicate()
        if process.returncode:
            return Reading(None, error=f"curl's exit status {process.returncode}")
        return Reading(int(printed), Path(file.name).read_bytes())


async def read_by_fetchq(fetcher: Fetcher, url: str) -> Reading:
    request = FetchRequest(
        url=url, max_redirects=0, timeout_s=_TIMEOUT_S, max_bytes=_MAX_BYTES, retry=RetryPolicy(max_tries=1)
    )
    result = await fetch({"fetcher": fetcher}, request)
    if result.status in _READ:
        return Reading(result.http_status, result.body)
    return Reading(None, error=f"{result.status}: {result.error}")


def verdict_of(ours: Reading, curls: Reading) -> str:
    if ours.status is None or curls.status is None:
        if ours.status is curls.status:
            return "both refuse"
        if curls.status == 101:
            return "refused 101"
        return "stricter" if ours.status is None else "more tolerant"
    if ours.status != curls.status:
        return "WRONG STATUS"
    return "the same" if ours.body == curls.body else "WRONG BODY"


async def _run(replies: list[Reply]) -> int:
    counted: Counter[str] = Counter()
    left = iter(replies)

    async def visit() -> None:
        for reply in left:
            async with ReplyServer(reply.data) as url:
                ours, curls = await read_by_fetchq(fetcher, url), await read_by_curl(url)
            verdict = verdict_of(ours, curls)
            counted[verdict] += 1
            if verdict not in ("the same", "both refuse"):
                told = [reading.error or f"{reading.status}, {len(reading.body)} bytes" for reading in (ours, curls)]
                print(f"{verdict:13} {reply.name:16} fetchq {told[0]}; curl {told[1]}")

    async with Fetcher(user_agent="fetchq-suites/1", allow_net=("127.0.0.1/32",)) as fetcher:
        await asyncio.gather(*(visit() for _ in range(_AT_ONCE)))
    print(f"{len(replies)} replies: {', '.join(f'{count} {verdict}' for verdict, count in counted.most_common())}")
    return int(not replies or counted["WRONG STATUS"] + counted["WRONG BODY"] > 0)


def main() -> int:
    return uvloop.run(_run(list(read_replies(Path(sys.argv[1]) / "tests" / "data"))))


if __name__ == "__main__":
    sys.exit(main())
