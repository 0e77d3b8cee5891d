"""Cooldowns: no job of a limit key starts, on any worker, until its cooldown ends."""

from __future__ import annotations

import logging
from typing import Any, Final, Self

from redis.asyncio import Redis

from fetchq.store.engine_scripts import REDIS_ERRORS, Script, takes_flags
from fetchq.store.keys import Keys
from fetchq_worker.settings import FIRST_COOLDOWN_S, MAX_COOLDOWN_S

logger = logging.getLogger("fetchq.politeness")

CALL_TIMEOUT_S: Final = 2.0
"""A fetch waits for this call, and must not wait long for it."""


class Cooldowns:
    """Starts cooldowns of limit keys: as long as the server asked, else `first_s`, doubled with each further one.

    No cooldown is longer than `max_s`; with 0 there are none.
    """

    def __init__(
        self,
        script: Script,
        keys: Keys,
        *,
        first_s: float = FIRST_COOLDOWN_S,
        max_s: float = MAX_COOLDOWN_S,
    ) -> None:
        self._script = script
        self._keys: Final = (keys.pending, keys.wake, *keys.frontier)
        self._prefix: Final = keys.waiting
        self._first_ms: Final = round(min(first_s, max_s) * 1000)
        self._max_ms: Final = round(max_s * 1000)

    @classmethod
    async def open(cls, redis: Redis, keys: Keys, **limits_s: Any) -> Self:
        """Prepares the script for this server. Raises what redis-py raises."""
        flags = await takes_flags(redis, CALL_TIMEOUT_S)
        script = Script(redis, "hosts/cooldown", flags=flags, timeout_s=CALL_TIMEOUT_S)
        return cls(script, keys, **limits_s)

    async def start(self, key: str, for_s: float | None) -> None:
        """Starts a cooldown of `key`, `for_s` long if its server asked for a time.

        If Redis does not answer, a warning is logged and the fetch goes on.
        """
        if not self._max_ms:
            return
        for_ms = "" if for_s is None else round(min(for_s * 1000, self._max_ms))
        try:
            args = ("", self._prefix, key, for_ms, self._first_ms, self._max_ms)
            left_ms: int = await self._script(self._keys, args)
        except REDIS_ERRORS as problem:
            logger.warning("cooldown.not_stored key=%s error=%s", key, problem or type(problem).__name__)
            return
        logger.info("cooldown.started key=%s for_s=%.1f asked=%s", key, left_ms / 1000, for_s is not None)
