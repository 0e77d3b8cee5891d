"""What the engine asks of the Redis server before it trusts it with jobs."""

from __future__ import annotations

import asyncio
import logging

from arq.connections import log_redis_info
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from fetchq.errors import RedisEvicts

logger = logging.getLogger("arq.worker")


async def check_server(redis: Redis, *, timeout_s: float) -> None:
    """Raises `RedisEvicts` if the server drops keys when it is full; logs what arq logs of it.

    A server that does not say (fakeredis has no INFO, and it can be forbidden) is taken as it is.
    """
    try:
        async with asyncio.timeout(timeout_s):
            memory = await redis.info("memory")
            await log_redis_info(redis, logger.info)
    except TimeoutError as problem:
        raise RedisTimeoutError(f"no reply within {timeout_s:g} s") from problem
    except ResponseError as problem:
        logger.info("this Redis tells nothing of itself: %s", problem)
        return
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise RedisEvicts(
            f"Redis has maxmemory-policy {policy}, which drops jobs when memory is short: set it to noeviction"
        )


def lacks_rights(problem: Exception) -> bool:
    """Whether Redis refused a command for the rights of its user (ACL); within a script it says so in words alone."""
    return isinstance(problem, NoPermissionError) or "user executing the script can't" in str(problem)
