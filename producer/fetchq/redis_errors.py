"""redis-py's exceptions, translated where they come in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .errors import RedisRefused, RedisUnavailable

CONNECTION_ERRORS = (RedisConnectionError, RedisTimeoutError, OSError)
"""What a lost or missing connection raises; the command may or may not have been carried out."""


@contextmanager
def translated(redis: Redis) -> Iterator[None]:
    """Turns redis-py's errors into `RedisUnavailable` and `RedisRefused`."""
    try:
        yield
    except CONNECTION_ERRORS as problem:
        raise RedisUnavailable(f"Redis at {place_of(redis)} cannot be reached: {problem or 'no answer'}") from problem
    except OutOfMemoryError as problem:
        raise RedisRefused(f"Redis at {place_of(redis)} is full: it has reached its maxmemory") from problem
    except ResponseError as problem:
        raise RedisRefused(f"Redis at {place_of(redis)} refused: {problem}") from problem
    except RedisError as problem:
        raise RedisUnavailable(f"Redis at {place_of(redis)} failed: {problem}") from problem


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
