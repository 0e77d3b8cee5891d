"""How a command ends: its exit status, and the one sentence that it says when it cannot go on."""

from __future__ import annotations

import errno
import os
from enum import IntEnum
from typing import Final

from fetchq import FetchqError, InvalidRedisURL, InvalidRequest, RedisUnavailable
from fetchq_worker.settings import InvalidSetting


class ExitStatus(IntEnum):
    OK = 0
    FAILED = 1
    """Some fetch failed, or what was asked for is not there."""
    USAGE = 2
    NO_REDIS = 3
    INTERRUPTED = 130
    """128 + SIGINT, as shells write it."""
    TERMINATED = 143
    """128 + SIGTERM."""
    PIPE_CLOSED = 141
    """128 + SIGPIPE: whoever read the output has left. Nothing is said about it."""


class CommandFailed(FetchqError):
    """A command cannot go on. `str()` is the sentence for stderr; an empty one says nothing."""

    def __init__(self, sentence: str, status: ExitStatus) -> None:
        super().__init__(sentence)
        self.status = status

    def __reduce__(self) -> tuple[type[CommandFailed], tuple[str, ExitStatus]]:
        return type(self), (str(self), self.status)


_CANNOT_WRITE: Final = {
    errno.ENOSPC: "the disk is full; make room and go on with --resume",
    errno.EDQUOT: "your disk quota is used up; make room and go on with --resume",
    errno.EFBIG: "the file has reached the largest size allowed; go on in another file",
}


def cannot_write(where: str, problem: OSError) -> CommandFailed:
    """The end of a command that cannot write its output."""
    if problem.errno == errno.EPIPE:
        return CommandFailed("", ExitStatus.PIPE_CLOSED)
    why = _CANNOT_WRITE.get(problem.errno or 0) or os.strerror(problem.errno or 0)
    return CommandFailed(f"cannot write {where}: {why}", ExitStatus.FAILED)


def failure_of(problem: FetchqError) -> CommandFailed:
    """The end of a command that `problem` stopped."""
    if isinstance(problem, CommandFailed):
        return problem
    if isinstance(problem, RedisUnavailable):
        what = str(problem).rstrip(".")
        return CommandFailed(
            f"{what}; start Redis, or give its address with --redis or FETCHQ_REDIS_URL", ExitStatus.NO_REDIS
        )
    wrong_usage = isinstance(problem, InvalidRequest | InvalidRedisURL | InvalidSetting)
    return CommandFailed(str(problem), ExitStatus.USAGE if wrong_usage else ExitStatus.FAILED)
