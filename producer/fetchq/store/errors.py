"""redis-py's exceptions, translated where they come in."""

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
"""What a lost or missing connection raises. The command may or may not have been carried out."""

REDIS_ERRORS = (RedisError, OSError)
"""What a call raises when Redis is away, is full or refuses. The command may or may not have been carried out."""


@contextmanager
def translated(redis: Redis) -> Iterator[None]:
    """Turns redis-py's errors into `RedisUnavailable` and `RedisRefused`."""
    try:
        yield
    except (RedisError, *CONNECTION_ERRORS) as problem:
        raise translation(redis, problem) from problem


def translation(redis: Redis, problem: Exception) -> RedisUnavailable | RedisRefused:
    """What redis-py's `problem` is called here, in a sentence that says what to do where that is not plain."""
    place = place_of(redis)
    while type(problem) is RedisConnectionError and isinstance(problem.__cause__, RedisError):
        problem = problem.__cause__  # what Redis says to a greeting comes as a connection that failed
    if isinstance(problem, AuthenticationError | AuthenticationWrongNumberOfArgsError):  # a ConnectionError to redis-py
        return RedisRefused(f"Redis at {place} wants another user name or password than its address holds: {problem}")
    if isinstance(problem, MasterNotFoundError):  # its text shows client objects
        return RedisUnavailable(f"no {place} can be found: no sentinel that answers knows one that is up")
    if (fault := _tls_fault(problem)) is not None:
        return RedisRefused(
            f"no TLS with Redis at {place}: {fault}; ssl_ca_certs in its address names the authority to trust,"
            " ssl_certfile and ssl_keyfile our own certificate"
        )
    if isinstance(problem, CONNECTION_ERRORS):
        return RedisUnavailable(f"Redis at {place} cannot be reached: {problem or 'no answer'}")
    if isinstance(problem, OutOfMemoryError):
        return RedisFull(f"Redis at {place} is full: it has reached its maxmemory")
    if isinstance(problem, ResponseError):
        return RedisRefused(f"Redis at {place} refused: {problem}")
    return RedisUnavailable(f"Redis at {place} failed: {problem}")


def place_of(redis: Redis) -> str:
    """Where a client's Redis is, for a person; never its password."""
    pool = redis.connection_pool
    service = getattr(pool, "service_name", None)
    if service is not None:
        return f"sentinel master {service}"
    kwargs: dict[str, Any] = pool.connection_kwargs
    if "path" in kwargs:
        return str(kwargs["path"])
    return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"


def _tls_fault(problem: BaseException | None) -> str | None:
    """What is wrong with a certificate or a handshake, if anything is; redis-py raises a ConnectionError over it."""
    while problem is not None:
        if isinstance(problem, ssl.SSLCertVerificationError):
            return problem.verify_message
        # A TLS connection that ended is a connection that ended.
        if isinstance(problem, ssl.SSLError) and not isinstance(problem, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            if "PEM lib" in str(problem):
                return "a file of our certificate or its key is not in PEM"
            return (problem.reason or str(problem)).replace("_", " ").lower()
        problem = problem.__cause__ or problem.__context__
    return None
