"""The standard streams: what to do where one is missing, or cannot be written. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import Final

FAILED: Final = 1
PIPE_CLOSED: Final = 141
"""128 + SIGPIPE, as shells write it."""

_WHY: Final = {
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file has reached the largest size allowed",
    errno.EBADF: "it is closed",
}


def prepare_streams() -> None:
    """Opens descriptors 0 to 2 where the parent has closed them: a socket must not get such a number.

    stdin is then empty, and writing to stdout fails as it does on a closed descriptor. stdout is UTF-8 whatever the
    locale, since programs read it.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            setattr(sys, name, open(fd, "w" if fd else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def printable(text: str) -> str:
    """`text` without control characters, which a terminal would act on."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def say(text: str) -> None:
    """Writes to stderr. A stderr that cannot be written changes nothing else."""
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
    flush_stderr()


def print_line(sentence: str) -> None:
    say(f"{printable(sentence)}\n")


def print_error(sentence: str) -> None:
    """Prints one line on stderr, since stdout is for results."""
    print_line(f"fetchq: {sentence}")


def flush_stderr() -> None:
    """Drops what stderr does not take. The interpreter's last flush would end the process with another status."""
    try:
        sys.stderr.flush()
    except OSError:
        _discard(2)


def flush_stdout() -> None:
    """Raises `OSError` for what is still in its buffer, before the interpreter would report it with a traceback."""
    sys.stdout.flush()


def why_not_written(problem: OSError) -> str:
    return _WHY.get(problem.errno or 0) or (problem.strerror or str(problem)).lower()


def fail_to_write(where: str, problem: OSError) -> int:
    """Reports that the output cannot be written, a closed pipe without a word; returns the exit status."""
    leave_stdout()
    if problem.errno == errno.EPIPE:
        return PIPE_CLOSED
    print_error(f"cannot write {where}: {why_not_written(problem)}")
    return FAILED


def leave_stdout() -> None:
    """Points stdout at /dev/null, so that the interpreter's last flush reports no error."""
    _discard(1)


def _discard(fd: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, fd)
    os.close(nothing)
