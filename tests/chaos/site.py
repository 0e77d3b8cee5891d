"""The site that a chaos run fetches from: it counts each request and answers with a number that no other answer has."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Self

from aiohttp import web


class CountingSite:
    """`/<number>` waits a moment and answers `{"number": ..., "run": ...}`."""

    def __init__(self, *, wait_s: float) -> None:
        self._wait_s = wait_s
        self._runs = 0
        self.requests: Counter[int] = Counter()
        """How many requests came for each number."""
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/{number}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        self.requests[number] += 1
        self._runs += 1
        run = self._runs
        await asyncio.sleep(self._wait_s)
        return web.json_response({"number": number, "run": run})
