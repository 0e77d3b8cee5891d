"""Cooling off: a limit key that asks for patience is left alone, by all workers and at once."""

from __future__ import annotations

import logging
from typing import Any, Final, Self

from redis.asyncio import Redis

from fetchq.store.engine_scripts import REDIS_ERRORS, Script, takes_flags
from fetchq.store.keys import Keys

logger = logging.getLogger("fetchq.frontier")

CALL_TIMEOUT_S: Final = 2.0
"""A fetch waits for it, and its result is worth more than this."""
FIRST_COOLING_S: Final = 60.0
MAX_COOLING_S: Final = 86_400.0


class Cooling:
    """Lets limit keys cool off: for as long as was asked, or for `first_s` and twice as long each time after that.

    No cooling-off is longer than `max_s`; with 0 there is none.
    """

    def __init__(
        self,
        script: Script,
        keys: Keys,
        *,
        first_s: float = FIRST_COOLING_S,
        max_s: float = MAX_COOLING_S,
    ) -> None:
        self._script = script
        self._keys: Final = (keys.pending, keys.wake, *keys.frontier)
        self._prefix: Final = keys.waiting
        self._first_ms: Final = round(min(first_s, max_s) * 1000)
        self._max_ms: Final = round(max_s * 1000)

    @classmethod
    async def open(cls, redis: Redis, keys: Keys, **limits_s: Any) -> Self:
        """With the script as this server takes it. Raises what redis-py raises."""
        flags = await takes_flags(redis, CALL_TIMEOUT_S)
        script = Script(redis, "hosts/cooldown", flags=flags, timeout_s=CALL_TIMEOUT_S)
        return cls(script, keys, **limits_s)

    async def cool(self, key: str, for_s: float | None) -> None:
        """Leaves `key` alone from now on, for `for_s` if its server said for how long.

        Where Redis does not take it, the fetch goes on as if nobody had asked, and a line is logged.
        """
        if not self._max_ms:
            return
        for_ms = "" if for_s is None else round(min(for_s * 1000, self._max_ms))
        try:
            args = ("", self._prefix, key, for_ms, self._first_ms, self._max_ms)
            left_ms: int = await self._script(self._keys, args)
        except REDIS_ERRORS as problem:
            logger.warning("host.not_cooled key=%s: %s", key, problem or type(problem).__name__)
            return
        logger.info("host.cooled key=%s for_s=%.1f asked=%s", key, left_ms / 1000, for_s is not None)
