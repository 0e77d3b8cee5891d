"""Cooldowns: no job of a limit key starts, on any worker, until its cooldown ends."""

from __future__ import annotations

import logging
from typing import Final

from redis.asyncio import Redis

from fetchq.store.commands import HostCommands
from fetchq.store.errors import REDIS_ERRORS, reason_of
from fetchq.store.keys import Keys
from fetchq.store.runner import PackedRunner
from fetchq_worker.settings import FIRST_COOLDOWN_S, MAX_COOLDOWN_S
from fetchq_worker.telemetry.events import HostCooledDown

logger = logging.getLogger("fetchq.hosts")

CALL_TIMEOUT_S: Final = 2.0
"""A fetch waits for this call, so the timeout is short."""


class Cooldowns:
    """Starts cooldowns of limit keys: as long as the server asked, else `first_s`, doubled with each further one.

    No cooldown is longer than `max_s`; with 0 there are none.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        first_s: float = FIRST_COOLDOWN_S,
        max_s: float = MAX_COOLDOWN_S,
    ) -> None:
        self._runner: Final = PackedRunner(redis, timeout_s=CALL_TIMEOUT_S)
        self._commands: Final = HostCommands(keys)
        self._first_ms: Final = round(min(first_s, max_s) * 1000)
        self._max_ms: Final = round(max_s * 1000)

    async def start(self, key: str, for_s: float | None) -> HostCooledDown | None:
        """Starts a cooldown of `key`, `for_s` long if its server asked for a time. None: there is none.

        If Redis does not reply, a warning is logged and the fetch continues.
        """
        if not self._max_ms:
            return None
        asked_ms = None if for_s is None else round(min(for_s * 1000, self._max_ms))
        try:
            remaining_ms, began = await self._commands.cooldown(
                self._runner, key, asked_ms=asked_ms, first_ms=self._first_ms, max_ms=self._max_ms
            )
        except REDIS_ERRORS as problem:
            logger.warning("host.cooldown_not_stored host=%s error=%s", key, reason_of(problem))
            return None
        return HostCooledDown(limit_key=key, for_s=remaining_ms / 1000, asked=for_s is not None, began=bool(began))
