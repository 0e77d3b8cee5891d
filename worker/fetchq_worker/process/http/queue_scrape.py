"""`/metrics/queue`: the figures of a worker's queue, at most one reading of Redis a second."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from redis.asyncio import Redis

from fetchq.errors import FetchqError
from fetchq.inspect.exposition import CONTENT_TYPES, choose_format, encode
from fetchq.inspect.families import Family, Format
from fetchq.inspect.figures import read_figures
from fetchq.inspect.queue_metrics import queue_families
from fetchq.store.keys import Keys
from fetchq.store.runner import ClientRunner

from .messages import Reply, Request, unavailable

CACHED_S: Final = 1.0
"""How long a reading is served again: any number of scrapes costs Redis one reading in this time."""
TIMEOUT_S: Final = 3.0


class QueueScrape:
    """Answers scrapes of one queue."""

    def __init__(self, client: Callable[[], Redis | None], keys: Keys) -> None:
        self._client: Final = client
        self._keys: Final = keys
        self._runner: ClientRunner | None = None
        self._reading = asyncio.Lock()
        self._read_at = -math.inf
        self._families: list[Family] = []
        self._problem = ""
        """Why the last reading failed."""
        self._texts: dict[Format, str] = {}
        """Of the last reading."""

    async def answer(self, request: Request) -> Reply:
        """503 while Redis does not answer."""
        timeout_s = TIMEOUT_S if request.timeout_s is None else 0.9 * request.timeout_s
        try:
            async with asyncio.timeout(timeout_s), self._reading:
                if time.monotonic() - self._read_at >= CACHED_S:
                    await self._read()
        except TimeoutError:
            return unavailable(f"Redis has not answered within {timeout_s:.3g} s")
        if self._problem:
            return unavailable(self._problem)
        chosen = choose_format(request.accept)
        if chosen not in self._texts:
            self._texts[chosen] = encode(self._families, chosen).decode().removesuffix("\n")
        return Reply(HTTPStatus.OK, self._texts[chosen], CONTENT_TYPES[chosen])

    async def _read(self) -> None:
        client = self._client()
        if client is None:
            self._problem = "the worker has not connected to Redis yet"
            return
        try:
            self._runner = self._runner or ClientRunner(client)
            figures = await read_figures(client, self._keys, runner=self._runner)
            self._families, self._problem = queue_families(figures), ""
        except FetchqError as problem:
            self._problem = str(problem)
        self._texts = {}
        self._read_at = time.monotonic()
