"""Checks of the Redis server before the first claim."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from arq.connections import log_redis_info
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from fetchq.errors import RedisEvicts, RedisTooOld

logger = logging.getLogger("fetchq.engine")
arq_logger = logging.getLogger("arq.worker")

OLDEST_REDIS: Final = (7, 0)
OLDEST_VALKEY: Final = (7, 2)


async def check_server(redis: Redis, *, timeout_s: float) -> None:
    """Raises `RedisTooOld`, or `RedisEvicts` if the server deletes keys when it is full. Logs the same line as arq.

    A server that has no INFO (fakeredis), or whose ACL forbids it, is not checked.
    """
    try:
        async with asyncio.timeout(timeout_s):
            server = await redis.info("server")
            memory = await redis.info("memory")
            await log_redis_info(redis, arq_logger.info)
    except TimeoutError as problem:
        raise RedisTimeoutError(f"no reply within {timeout_s:g} s") from problem
    except ResponseError as problem:
        logger.info("server.unchecked: %s", problem)
        return
    check_version(server)
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise RedisEvicts(
            f"Redis has maxmemory-policy {policy}, which deletes jobs when memory is short: set it to noeviction"
        )


def check_version(server: Mapping[str, Any]) -> None:
    """Raises `RedisTooOld`. `server` is the reply of INFO server; Valkey names its own version beside Redis's."""
    name, field, oldest = "Redis", "redis_version", OLDEST_REDIS
    if "valkey_version" in server:
        name, field, oldest = "Valkey", "valkey_version", OLDEST_VALKEY
    version = str(server.get(field, ""))
    major, _, minor = version.partition(".")
    minor = minor.partition(".")[0]
    if major.isdigit() and minor.isdigit() and (int(major), int(minor)) < oldest:
        raise RedisTooOld(f"the server is {name} {version}: fetchq needs {name} {oldest[0]}.{oldest[1]} or newer")


def lacks_rights(problem: Exception) -> bool:
    """Whether the ACL denied a command. For a command within a script only the error's text shows it."""
    return isinstance(problem, NoPermissionError) or "user executing the script can't" in str(problem)
