"""The lines of a file of URLs, read as they arrive and in bounded memory."""

from __future__ import annotations

import asyncio
import codecs
import errno
import os
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from fetchq.command.exit_status import CommandFailed, ExitStatus
from fetchq.contract.urls import MAX_URL_CHARS

CHUNK_BYTES: Final = 65_536
MAX_LINE_BYTES: Final = 4 * (MAX_URL_CHARS + 1)
"""A UTF-8 character takes at most four bytes, so a longer line exceeds the limit of a URL even when it is cut."""


class LineSplitter:
    """Splits chunks of bytes into lines, without blank lines and `#` comments. LF, CRLF and CR end a line.

    The text is UTF-8, with or without a byte order mark; other bytes become U+FFFD. A line longer than any URL is cut
    to a length that the contract still refuses.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._at_start = True

    def feed(self, chunk: bytes) -> list[str]:
        """The lines that `chunk` completes."""
        if self._at_start:
            chunk = self._rest + chunk
            self._rest = b""
            if len(chunk) < len(codecs.BOM_UTF8):
                self._rest = chunk
                return []
            chunk = chunk.removeprefix(codecs.BOM_UTF8)
            self._at_start = False
        parts = chunk.replace(b"\r", b"\n").split(b"\n")
        parts[0] = self._rest + parts[0]
        self._rest = parts.pop()[:MAX_LINE_BYTES]
        return _texts(parts)

    def finish(self) -> list[str]:
        """The last line, if the data does not end with a line end."""
        rest = self._rest.removeprefix(codecs.BOM_UTF8) if self._at_start else self._rest
        self._rest = b""
        return _texts([rest])


def _texts(parts: list[bytes]) -> list[str]:
    texts = []
    for part in parts:
        text = part[:MAX_LINE_BYTES].decode("utf-8", "replace").strip()
        if text and not text.startswith("#"):
            texts.append(text[: MAX_URL_CHARS + 1])
    return texts


def count_lines(path: Path) -> int | None:
    """The number of lines of a regular file; None for a file that can be read only once."""
    if not path.is_file():
        return None
    lines = 0
    last = b"\n"
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return lines + (last != b"\n")


def read_lines(name: str) -> AsyncGenerator[list[str], None]:
    """The lines of the file `name`, or of stdin if it is `-`, in batches as they arrive.

    Opens the file at once. Raises `CommandFailed`, and so does the generator. The event loop waits for a pipe or a
    terminal, so that a slow writer does not block it.
    """
    try:
        # O_NONBLOCK: opening a FIFO without a writer must not block the loop.
        fd = 0 if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            os.close(fd)
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except (OSError, ValueError) as problem:
        raise CommandFailed(f"cannot read {name}: {_why(problem)}", ExitStatus.USAGE) from problem
    return _read_open(fd, "stdin" if name == "-" else name)


async def _read_open(fd: int, what: str) -> AsyncGenerator[list[str], None]:
    splitter = LineSplitter()
    try:
        mode = os.fstat(fd).st_mode
        waits = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)
        while chunk := await _read(fd, waits):
            if lines := splitter.feed(chunk):
                yield lines
        if lines := splitter.finish():
            yield lines
    except OSError as problem:
        raise CommandFailed(f"cannot read {what}: {_why(problem)}", ExitStatus.USAGE) from problem
    finally:
        if fd:
            os.close(fd)


async def _read(fd: int, waits: bool) -> bytes:
    while True:
        if waits:
            await _wait_readable(fd)
        try:
            return os.read(fd, CHUNK_BYTES)
        except BlockingIOError:
            waits = True


async def _wait_readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(fd, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(fd)


def _why(problem: OSError | ValueError) -> str:
    return problem.strerror or str(problem) if isinstance(problem, OSError) else str(problem)
