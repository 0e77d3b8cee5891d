"""Checks of the Redis server before the first claim."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from arq.connections import log_redis_info
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from fetchq.errors import RedisEvicts, RedisTooOld
from fetchq.store.errors import REDIS_ERRORS, RedisFault, fault_of, reason_of

logger = logging.getLogger("fetchq.engine")
arq_logger = logging.getLogger("arq.worker")

OLDEST_REDIS: Final = (7, 0)
OLDEST_VALKEY: Final = (7, 2)
ANSWER_S: Final = 5.0
"""Longest wait for the replies of one check."""
FIRST_PAUSE_S: Final = 0.25
MAX_PAUSE_S: Final = 3.0
_STAYS: Final = (RedisFault.RIGHTS, RedisFault.REFUSED)
"""Faults after which a server counts as one without INFO."""


async def wait_ready(redis: Redis, *, wait_s: float) -> None:
    """Returns when the server has passed `check_server`.

    A server that cannot be reached, or is not ready (it loads its data, fails over, is at its limit of clients), is
    checked again for `wait_s`, with a line in the log each time. After that, and at once for any other error, raises
    what `check_server` raises.
    """
    loop = asyncio.get_running_loop()
    until, pause_s, attempt = loop.time() + wait_s, FIRST_PAUSE_S, 0
    while True:
        attempt += 1
        try:
            return await check_server(redis, timeout_s=ANSWER_S)
        except REDIS_ERRORS as problem:
            left_s = until - loop.time()
            if left_s <= 0 or not fault_of(problem).passes:
                raise
            pause_s = min(pause_s, left_s)
            logger.warning("redis.waiting try=%d retry_in_s=%.2f error=%s", attempt, pause_s, reason_of(problem))
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)


async def check_server(redis: Redis, *, timeout_s: float) -> None:
    """Raises `RedisTooOld`, `RedisEvicts` if the server deletes keys when it is full, or what redis-py raises.

    Logs the same line as arq. A server that has no INFO (fakeredis), or whose ACL forbids it, is not checked.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await redis.ping()  # INFO is served by a server that still loads its data, PING is not
            info = await redis.info()
            await log_redis_info(redis, arq_logger.info)
    except TimeoutError as problem:
        raise RedisTimeoutError(f"no reply within {timeout_s:g} s") from problem
    except ResponseError as problem:
        if fault_of(problem) not in _STAYS:
            raise
        logger.info("server.unchecked error=%s", reason_of(problem))
        return
    check_version(info)
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise RedisEvicts(
            f"Redis has maxmemory-policy {policy}, which deletes jobs when memory is short: set it to noeviction"
        )
    if info.get("role") == "slave" and info.get("slave_read_only", 1):
        raise ReadOnlyError("it is a read-only replica")


def is_final(problem: Exception, *, late: bool) -> bool:
    """Whether a worker that has claimed nothing yet ends: by what a retry does not correct, or an outage if `late`.

    Not by a full Redis, which workers drain.
    """
    fault = fault_of(problem)
    return fault is not RedisFault.FULL and (late or not fault.passes)


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
