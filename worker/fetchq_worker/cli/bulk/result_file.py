"""Where result lines go: a file that a later run can continue, or stdout."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol, Self

import msgspec

from fetchq import FetchStatus
from fetchq.command.exit_status import CannotWrite, CommandFailed, ExitStatus
from fetchq.contract.wire import UNREADABLE

if sys.platform != "win32":
    import fcntl

MAX_LINE_BYTES: Final = 64 << 20
"""A longer line was not written by fetchq."""
_LINE_START: Final = b'{"id":'


class WrittenLine(msgspec.Struct):
    """The fields of a line that a later run reads."""

    url: str
    status: str

    @property
    def ok(self) -> bool:
        """Whether the fetch succeeded; an unknown status counts as a failure."""
        return self.status in (FetchStatus.OK, FetchStatus.NOT_MODIFIED)


def refuse_same_file(from_file: str | None, out: str | None) -> None:
    """Raises `CommandFailed` if the list would be read from the file that the results go to."""
    with contextlib.suppress(OSError, ValueError):  # one of them does not exist
        if from_file not in (None, "-") and out not in (None, "-") and Path(from_file or "").samefile(out or ""):
            raise CommandFailed("--from and --out name the same file", ExitStatus.USAGE)


class LineSink(Protocol):
    """Writes whole lines; a kill of the process does not undo a write that returned. Raises `CommandFailed`."""

    def write(self, lines: bytes) -> None: ...

    def close(self) -> None: ...


class StdoutLines:
    """Lines to stdout."""

    def __init__(self) -> None:
        os.set_blocking(1, True)  # on a non-blocking terminal or pipe, writes would fail halfway

    def write(self, lines: bytes) -> None:
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(1, rest) :]
        except OSError as problem:
            raise CannotWrite("to stdout", problem) from problem

    def close(self) -> None:
        """Stdout stays open."""


class ResultFile:
    """A JSON Lines file. A line that a kill cut short is removed when the file is opened again.

    One process at a time writes to it.
    """

    def __init__(self, path: Path, *, resume: bool | None) -> None:
        """Opens `path`; raises `CommandFailed` if it is not empty and not to be resumed, or if it is in use.

        `resume` is None for a command that cannot continue a file.
        """
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except (OSError, ValueError) as problem:
            why = problem.strerror if isinstance(problem, OSError) else str(problem)
            raise CommandFailed(f"cannot open {path}: {why}", ExitStatus.USAGE) from problem
        try:
            state = os.fstat(self._fd)
            self._is_regular = stat.S_ISREG(state.st_mode)
            self._end = state.st_size if self._is_regular else 0
            self._lock()
            self._refuse(found=bool(self._end), resume=resume)
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ResultFile {self._path} {self._end} bytes>"

    def truncate_partial_line(self) -> Iterator[WrittenLine]:
        """The lines of the file. Removes what follows the last line end.

        Raises `CommandFailed`, and changes nothing, if a line is not a result.
        """
        if not self._is_regular:
            return
        end = 0
        with open(self._fd, "rb", closefd=False) as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), start=1):
                if not line.endswith(b"\n"):
                    is_ours = number > 1 or _LINE_START.startswith(line[: len(_LINE_START)])
                    if len(line) == MAX_LINE_BYTES or not is_ours:
                        raise self._not_a_result(number)
                    break
                try:
                    yield msgspec.json.decode(line, type=WrittenLine)
                except UNREADABLE as problem:
                    raise self._not_a_result(number) from problem
                end += len(line)
        if end != self._end:
            self._cut(end)

    def write(self, lines: bytes) -> None:
        rest = memoryview(lines)
        try:
            os.lseek(self._fd, self._end, os.SEEK_SET) if self._is_regular else None
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as problem:
            if self._is_regular:
                self._cut(self._end + _whole_lines(lines[: len(lines) - len(rest)]))
            raise CannotWrite(str(self._path), problem) from problem
        self._end += len(lines)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _refuse(self, *, found: bool, resume: bool | None) -> None:
        if found and not resume:
            advice = "name another file" if resume is None else "continue it with --resume, or name another file"
            raise CommandFailed(f"{self._path} contains results: {advice}", ExitStatus.USAGE)

    def _lock(self) -> None:
        if sys.platform == "win32" or not self._is_regular:
            return
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise CommandFailed(f"another fetchq is writing to {self._path}", ExitStatus.USAGE) from problem
        except OSError:
            return  # the file system has no locks

    def _cut(self, end: int) -> None:
        os.ftruncate(self._fd, end)
        self._end = end

    def _not_a_result(self, number: int) -> CommandFailed:
        return CommandFailed(
            f"line {number} of {self._path} is not a result of fetchq: name another file", ExitStatus.USAGE
        )


def _whole_lines(written: bytes) -> int:
    return written.rfind(b"\n") + 1
