"""The figures of the queues as text for Prometheus: read at most once a second, whatever the number of scrapers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import msgspec
from redis.asyncio import Redis

from fetchq.errors import FetchqError, RedisUnavailable
from fetchq.inspect.exposition import CONTENT_TYPES, choose_format, encode
from fetchq.inspect.families import Family, Format
from fetchq.inspect.figures import read_figures
from fetchq.inspect.queue_metrics import queue_families
from fetchq.store.errors import address_of
from fetchq.store.keys import Keys

READ_TIMEOUT_S: Final = 1.5
"""Below the 10 s that Prometheus waits for a scrape, and the 2 s that a stopping gateway waits for its answers."""
FRESH_S: Final = 1.0
"""For how long a reading is answered again, one that failed too."""

_log = logging.getLogger("fetchq.gateway")


class _Reading:
    """One reading of all queues, and its text in the formats that were asked for."""

    def __init__(self, families: list[Family]) -> None:
        self._families: Final = families
        self._texts: Final[dict[Format, bytes]] = {}

    def text(self, chosen: Format) -> bytes:
        if chosen not in self._texts:
            self._texts[chosen] = encode(self._families, chosen)
        return self._texts[chosen]


class QueueFiguresText:
    """The figures of `keys`, shared by all who ask."""

    def __init__(self, redis: Redis, keys: Sequence[Keys]) -> None:
        self._redis: Final = redis
        self._keys: Final = tuple(keys)
        self._reading: asyncio.Task[_Reading] | None = None
        self._ended_s = 0.0
        self._failed = False

    async def read(self, accept: str) -> tuple[str, bytes]:
        """The content type and the text in the format that an Accept header asks for.

        Raises `RedisUnavailable` or `RedisRefused`.
        """
        # A task of its own, since the client of one request may go while others wait for the same figures.
        reading = await asyncio.shield(self._current())
        chosen = choose_format(accept)
        return CONTENT_TYPES[chosen], reading.text(chosen)

    def _current(self) -> asyncio.Task[_Reading]:
        """The reading that is under way, or the last one as long as it is fresh, or a new one."""
        loop = asyncio.get_running_loop()
        task = self._reading
        if task is None or (task.done() and loop.time() - self._ended_s >= FRESH_S) or task.get_loop() is not loop:
            task = self._reading = loop.create_task(self._read(), name="fetchq-figures")
            task.add_done_callback(self._on_end)
        return task

    def _on_end(self, task: asyncio.Task[_Reading]) -> None:
        self._ended_s = task.get_loop().time()
        problem = None if task.cancelled() else task.exception()  # read here too, since all who asked may have gone
        if isinstance(problem, FetchqError) and not self._failed:
            _log.warning("redis.unavailable error=%s", problem)
        elif problem is None and self._failed:
            _log.warning("redis.available")
        self._failed = problem is not None

    async def _read(self) -> _Reading:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                each = [queue_families(await read_figures(self._redis, keys)) for keys in self._keys]
        except TimeoutError as problem:
            where = address_of(self._redis)
            raise RedisUnavailable(f"Redis at {where} has not answered within {READ_TIMEOUT_S:g} s") from problem
        return _Reading([_joined(same) for same in zip(*each, strict=True)])


def _joined(same: Sequence[Family]) -> Family:
    """The metric of one name with the series of all queues."""
    return msgspec.structs.replace(same[0], samples=tuple(sample for family in same for sample in family.samples))
