"""How a command ends: its exit status, and the sentence that it prints on failure."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from fetchq.errors import (
    DurabilityRefused,
    FetchqError,
    InvalidRedisURL,
    InvalidRequest,
    RedisEvicts,
    RedisFull,
    RedisRefused,
    RedisTooOld,
    RedisUnavailable,
)
from fetchq.store.errors import REDIS_ERRORS, RedisFault, fault_of

from .settings import InvalidSetting
from .streams import FAILED, PIPE_CLOSED, why_not_written


class ExitStatus(IntEnum):
    OK = 0
    FAILED = FAILED
    """A fetch failed, a job or dead letter does not exist, or not all jobs were enqueued."""
    USAGE = 2
    NO_REDIS = 3
    """Redis is missing, refuses commands, is full, or is set up to evict keys."""
    INTERRUPTED = 130
    """128 + SIGINT, as shells write it."""
    TERMINATED = 143
    """128 + SIGTERM."""
    PIPE_CLOSED = PIPE_CLOSED
    """The reader of the output has closed the pipe. Nothing is printed."""


class CommandFailed(FetchqError):
    """A command cannot continue. `str()` is the sentence for stderr; empty: none is printed."""

    def __init__(self, sentence: str, status: ExitStatus) -> None:
        super().__init__(sentence)
        self.status = status

    def __reduce__(self) -> tuple[type[CommandFailed], tuple[str, ExitStatus]]:
        return type(self), (str(self), self.status)


_ARGUMENTS: Final = frozenset({"host", "job_id"})
"""Fields that are given without a flag, by some commands at least."""
_FLAGS: Final = {"headers": "header", "tags": "tag"}
"""Flags whose names are not those of their fields."""


_ADVICE: Final = {
    RedisFault.LOGIN: "give its user name and password with --redis or FETCHQ_REDIS_URL, as in"
    " redis://user:password@host, or the password in a file with FETCHQ_REDIS_PASSWORD_FILE",
    RedisFault.RIGHTS: "",
    RedisFault.FULL: "let workers drain it, or give it more memory",  # an error of a command, or of a script
    RedisFault.NOT_READY: "try again when it is",
    RedisFault.REFUSED: "check whether --redis or FETCHQ_REDIS_URL names the right server",
}
"""What the operator can do about a fault; empty if the error says it."""


class CannotWrite(CommandFailed):
    """The output cannot be written; a closed pipe has no sentence."""

    def __init__(self, where: str, problem: OSError) -> None:
        closed = problem.errno == errno.EPIPE
        sentence = "" if closed else f"cannot write {where}: {why_not_written(problem)}"
        super().__init__(sentence, ExitStatus.PIPE_CLOSED if closed else ExitStatus.FAILED)


def failure_of(problem: FetchqError) -> CommandFailed:
    """The failure of a command that `problem` stopped."""
    if isinstance(problem, CommandFailed):
        return problem
    if isinstance(problem, RedisUnavailable | RedisRefused | RedisEvicts | RedisTooOld | DurabilityRefused):
        advice = _redis_advice(problem)
        what = str(problem).rstrip(".")
        return CommandFailed(f"{what}; {advice}" if advice else what, ExitStatus.NO_REDIS)
    wrong_usage = isinstance(problem, InvalidRequest | InvalidRedisURL | InvalidSetting)
    return CommandFailed(_sentence(problem), ExitStatus.USAGE if wrong_usage else ExitStatus.FAILED)


def _sentence(problem: FetchqError) -> str:
    """The error's own sentence; that of an invalid option names the flag in place of the field."""
    if isinstance(problem, InvalidRedisURL):
        return f"--redis (FETCHQ_REDIS_URL): {problem}"
    if isinstance(problem, InvalidRequest) and problem.field == "url":
        return problem.problem  # names the text
    if isinstance(problem, InvalidRequest) and problem.field not in _ARGUMENTS:
        field = problem.field.rpartition(".")[2]
        flag = _FLAGS.get(field) or field.removesuffix("_s").replace("_", "-")
        return f"--{flag}: {problem.problem}"
    return str(problem)


def _redis_advice(problem: FetchqError) -> str:
    """What the operator can do; empty if the error says it."""
    if isinstance(problem, RedisFull):
        return "let workers drain it, or give it more memory"
    if isinstance(problem, DurabilityRefused):
        return ""
    causes = tuple(_causes(problem))
    faults = {fault_of(cause) for cause in causes if isinstance(cause, REDIS_ERRORS)}
    for fault, advice in _ADVICE.items():
        if fault in faults:
            return advice
    if isinstance(problem, RedisUnavailable):
        return "start Redis, or give its address with --redis or FETCHQ_REDIS_URL"
    return ""


def _causes(problem: BaseException) -> Iterator[BaseException]:
    """`problem` and the exceptions that caused it; each once, since a chain can be circular."""
    seen: set[int] = set()
    cause: BaseException | None = problem
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
