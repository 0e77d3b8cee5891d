"""Waits for Redis's first reply: shortly, since a person or a health check waits for the program's exit."""

from __future__ import annotations

import asyncio
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from fetchq.errors import RedisUnavailable
from fetchq.store.errors import address_of, translated

ANSWER_S: Final = 5.0
"""Longest wait for Redis's first reply."""


async def wait_for_answer(redis: Redis, timeout_s: float | None = None) -> None:
    """Waits for the reply to a PING; raises `RedisUnavailable` or `RedisRefused`.

    That Redis cannot save, which it says to a PING as well, is no reason to fail: it still serves reads.
    """
    timeout_s = ANSWER_S if timeout_s is None else min(timeout_s, ANSWER_S)
    with translated(redis):
        try:
            async with asyncio.timeout(timeout_s):
                await redis.ping()
        except ResponseError as problem:
            if not str(problem).startswith("MISCONF"):
                raise
        except TimeoutError as problem:  # before `translated`, for which it would be any OSError
            raise RedisUnavailable(f"Redis at {address_of(redis)} has not answered within {timeout_s:g} s") from problem
