"""The site of a chaos run: it counts requests, and each response contains a unique number."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Final, Self

import msgspec
from aiohttp import web

HOST: Final = "127.0.0.1"


class Crowd(msgspec.Struct, frozen=True, gc=False):
    """The open requests at the time of a request beyond the limit."""

    at_ms: int
    numbers: tuple[int, ...]
    """One for each open request, the new one last."""


class CountingSite:
    """`/<number>` responds `{"number": ..., "run": ...}` after a short delay.

    A request is open until its response is sent or its client has disconnected. `limit` is the maximum number of open
    requests.
    """

    def __init__(self, *, wait_s: float, limit: int) -> None:
        self._wait_s = wait_s
        self.limit: Final = limit
        self._open: dict[int, int] = {}
        self.most_open = 0
        """The maximum number of open requests."""
        self.crowds: list[Crowd] = []
        """In chronological order."""
        self._runs = 0
        self.requests: Counter[int] = Counter()
        """The number of requests for each job number."""
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/{number}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, 0)
        await site.start()
        self.url = f"http://{HOST}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        self.requests[number] += 1
        self._runs += 1
        run = self._runs
        self._open[run] = number
        self.most_open = max(self.most_open, len(self._open))
        if len(self._open) > self.limit:
            self.crowds.append(Crowd(time.time_ns() // 1_000_000, tuple(self._open.values())))
        try:
            await asyncio.sleep(self._wait_s)
        finally:
            del self._open[run]
        return web.json_response({"number": number, "run": run})
