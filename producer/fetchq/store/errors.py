"""Translates redis-py's exceptions into those of `fetchq.errors`."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from fetchq.errors import FetchqError, RedisFull, RedisRefused, RedisUnavailable

CONNECTION_ERRORS = (RedisConnectionError, RedisTimeoutError, OSError)
"""What a lost or missing connection raises. The command may have been executed."""

REDIS_ERRORS = (RedisError, OSError)
"""What a call raises when Redis is unavailable, is full or refuses. The command may have been executed."""

_NOT_READY: Final = (
    BusyLoadingError,
    ReadOnlyError,
    ClusterDownError,
    TryAgainError,
)  # MASTERDOWN is a ClusterDownError
_NOT_READY_CODES: Final = frozenset(
    {"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "READONLY", "TRYAGAIN"}
)
"""The codes that redis-py leaves at the head of the text differ from version to version."""
_NO_RIGHTS_IN_SCRIPT: Final = ("the user executing the script ", "acl failure in script")
"""How Redis 7.0 and 7.2, and newer servers, begin the error of a command within a script. It has no code of its own."""
_OF_PIPELINE: Final = re.compile(
    r"Command # \d+ \(.*\) of pipeline caused error: (?:\((?P<quote>['\"]))?(.*?)(?(quote)(?P=quote),?.*\))", re.DOTALL
)
_MAX_TEXT: Final = 300


class RedisFault(Enum):
    """Why a call to Redis failed."""

    LOST = "lost"
    """No connection, no reply, or no free connection on the server."""
    NOT_READY = "not_ready"
    """Redis replies, but cannot serve for now: it loads its data, fails over, runs a script, cannot save."""
    LOGIN = "login"
    """The user name or password is wrong or missing."""
    RIGHTS = "rights"
    """The user may not run a command, or use a key."""
    TLS = "tls"
    FULL = "full"
    """Redis has reached its `maxmemory`."""
    REFUSED = "refused"
    """Any other error reply."""

    @property
    def passes(self) -> bool:
        """Whether the same call can succeed later without a change by an operator."""
        return self in (RedisFault.LOST, RedisFault.NOT_READY)


def fault_of(problem: BaseException) -> RedisFault:
    """Why a call failed, from what redis-py raised: by class or error code, by text only where there is neither."""
    problem = _unwrapped(problem)
    text = _text_of(problem)
    if isinstance(problem, AuthenticationError | AuthenticationWrongNumberOfArgsError):  # a ConnectionError to redis-py
        return RedisFault.LOGIN
    if isinstance(problem, NoPermissionError) or text.lower().startswith(_NO_RIGHTS_IN_SCRIPT):
        return RedisFault.RIGHTS
    if isinstance(problem, _NOT_READY) or text.split(" ", 1)[0] in _NOT_READY_CODES:
        return RedisFault.NOT_READY
    if _tls_fault(problem) is not None:
        return RedisFault.TLS
    if isinstance(problem, OutOfMemoryError):
        return RedisFault.FULL
    if isinstance(problem, ResponseError) and not text.startswith("max number of clients"):
        return RedisFault.REFUSED
    return RedisFault.LOST


def reason_of(problem: BaseException) -> str:
    """The text of an error, for a log line or a message; for missing rights with what to do about it."""
    problem = _unwrapped(problem)
    text = _text_of(problem)[:_MAX_TEXT] or (
        "no reply" if isinstance(problem, TimeoutError) else type(problem).__name__
    )
    if fault_of(problem) is RedisFault.RIGHTS:
        return f"{text}; give the user of its address the rights that `fetchq acl` prints"
    return text


def _text_of(problem: BaseException) -> str:
    """What Redis or the operating system said.

    For a command of a pipeline redis-py puts the whole command in front, with a job's payload; for a connection that
    failed, numbers and addresses that the message has already.
    """
    cause = problem.__cause__ or problem.__context__
    if type(problem) is RedisConnectionError and isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError):
        if isinstance(cause, socket.gaierror):
            return str(cause.strerror).lower()
        if cause.errno:
            return os.strerror(cause.errno).lower()
    if isinstance(problem, MasterNotFoundError):  # its own text shows client objects
        return "no sentinel that replied has a reachable master"
    text = str(problem)
    return text if (annotated := _OF_PIPELINE.fullmatch(text)) is None else annotated[2]


def _unwrapped(problem: BaseException) -> BaseException:
    """The refusal behind a connection that failed: redis-py raises a refused handshake as a failed connection."""
    while type(problem) is RedisConnectionError and isinstance(problem.__cause__, RedisError):
        problem = problem.__cause__
    return problem


@contextmanager
def translated(redis: Redis) -> Iterator[None]:
    """Turns redis-py's errors into `RedisUnavailable` and `RedisRefused`."""
    try:
        yield
    except FetchqError:  # RedisUnavailable is a ConnectionError, and would be told twice
        raise
    except (RedisError, *CONNECTION_ERRORS) as problem:
        raise translation(redis, problem) from problem


def translation(redis: Redis, problem: BaseException) -> RedisUnavailable | RedisRefused:
    """The `FetchqError` for an error of redis-py, with a message that says what to do if that is not obvious."""
    where = f"Redis at {address_of(redis)}"
    why = reason_of(problem)
    problem = _unwrapped(problem)
    match fault_of(problem):
        case RedisFault.LOGIN:
            return RedisRefused(f"{where} refused the user name or password of its address: {why}")
        case RedisFault.RIGHTS:
            return RedisRefused(f"{where} refused: {why}")
        case RedisFault.NOT_READY:
            return RedisUnavailable(f"{where} is not ready: {why}")
        case RedisFault.TLS:
            return RedisRefused(
                f"no TLS with {where}: {_tls_fault(problem)}; ssl_ca_certs in its address names the authority to trust,"
                " ssl_certfile and ssl_keyfile the client certificate"
            )
        case RedisFault.FULL:
            return RedisFull(f"{where} is full: it has reached its maxmemory")
        case RedisFault.REFUSED:
            return RedisRefused(f"{where} refused: {why}")
        case RedisFault.LOST if isinstance(problem, MasterNotFoundError):
            return RedisUnavailable(f"{address_of(redis)} was not found: {why}")
        case RedisFault.LOST:
            return RedisUnavailable(f"{where} cannot be reached: {why}")


def address_of(redis: Redis) -> str:
    """The address of a client's Redis, for messages. It never contains the password."""
    pool = redis.connection_pool
    service = getattr(pool, "service_name", None)
    if service is not None:
        return f"sentinel master {service}"
    kwargs: dict[str, Any] = pool.connection_kwargs
    if "path" in kwargs:
        return str(kwargs["path"])
    return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"


def _tls_fault(problem: BaseException | None) -> str | None:
    """The fault of a certificate or TLS handshake behind a ConnectionError of redis-py; None for another cause."""
    while problem is not None:
        if isinstance(problem, ssl.SSLCertVerificationError):
            return problem.verify_message
        # A TLS connection that was closed counts as a lost connection.
        if isinstance(problem, ssl.SSLError) and not isinstance(problem, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            if "PEM lib" in str(problem):
                return "the file of the client certificate or its key is not in PEM"
            return (problem.reason or str(problem)).replace("_", " ").lower()
        problem = problem.__cause__ or problem.__context__
    return None
