"""Translates redis-py's exceptions into those of `fetchq.errors`."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from fetchq.errors import RedisFull, RedisRefused, RedisUnavailable

CONNECTION_ERRORS = (RedisConnectionError, RedisTimeoutError, OSError)
"""What a lost or missing connection raises. The command may have been executed."""

REDIS_ERRORS = (RedisError, OSError)
"""What a call raises when Redis is unavailable, is full or refuses. The command may have been executed."""


@contextmanager
def translated(redis: Redis) -> Iterator[None]:
    """Turns redis-py's errors into `RedisUnavailable` and `RedisRefused`."""
    try:
        yield
    except (RedisError, *CONNECTION_ERRORS) as problem:
        raise translation(redis, problem) from problem


def translation(redis: Redis, problem: Exception) -> RedisUnavailable | RedisRefused:
    """The `FetchqError` for an error of redis-py, with a message that says what to do if that is not obvious."""
    address = address_of(redis)
    while type(problem) is RedisConnectionError and isinstance(problem.__cause__, RedisError):
        problem = problem.__cause__  # redis-py raises a refused handshake as a failed connection
    if isinstance(problem, AuthenticationError | AuthenticationWrongNumberOfArgsError):  # a ConnectionError to redis-py
        return RedisRefused(f"Redis at {address} refused the user name or password of its address: {problem}")
    if isinstance(problem, MasterNotFoundError):  # its text shows client objects
        return RedisUnavailable(f"{address} was not found: no sentinel that replied has a reachable master")
    if (fault := _tls_fault(problem)) is not None:
        return RedisRefused(
            f"no TLS with Redis at {address}: {fault}; ssl_ca_certs in its address names the authority to trust,"
            " ssl_certfile and ssl_keyfile the client certificate"
        )
    if isinstance(problem, CONNECTION_ERRORS):
        return RedisUnavailable(f"Redis at {address} cannot be reached: {problem or 'no reply'}")
    if isinstance(problem, OutOfMemoryError):
        return RedisFull(f"Redis at {address} is full: it has reached its maxmemory")
    if isinstance(problem, ResponseError):
        return RedisRefused(f"Redis at {address} refused: {problem}")
    return RedisUnavailable(f"Redis at {address} failed: {problem}")


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
