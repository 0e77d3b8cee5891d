"""A small web site on loopback with the usual responses and failures."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

SLOW_S: Final = 1.0
RETRY_AFTER_S: Final = 1
BIG_BYTES: Final = 8 << 20

_PARAGRAPH: Final = "<p>Fetching is polite or it is an attack.</p>\n"


@asynccontextmanager
async def serve() -> AsyncIterator[str]:
    """The address of the site, such as `http://127.0.0.1:40313`, while it is open."""
    site = _Site()
    runner = web.AppRunner(site.app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


class _Site:
    def __init__(self) -> None:
        self._visits: Counter[str] = Counter()
        self.app = web.Application()
        self.app.add_routes(
            [
                web.get("/page/{n}", self._page),
                web.get("/api/{n}", self._api),
                web.get("/hop/{left}/{n}", self._hop),
                web.get("/gzip/{n}", self._gzip),
                web.get("/slow/{n}", self._slow),
                web.get("/flaky/{n}", self._flaky),
                web.get("/big/{n}", self._big),
            ]
        )

    async def _page(self, request: web.Request) -> web.Response:
        number = request.match_info["n"]
        text = f"<!doctype html><title>Page {number}</title>\n{_PARAGRAPH * 40}"
        return web.Response(text=text, content_type="text/html")

    async def _api(self, request: web.Request) -> web.Response:
        return web.json_response({"answer": 42, "item": request.match_info["n"], "tags": ["a", "b"]})

    async def _hop(self, request: web.Request) -> web.Response:
        left, number = int(request.match_info["left"]), request.match_info["n"]
        raise web.HTTPFound(f"/hop/{left - 1}/{number}" if left else f"/page/{number}")

    async def _gzip(self, request: web.Request) -> web.Response:
        body = gzip.compress(f"<title>{request.match_info['n']}</title>{_PARAGRAPH * 400}".encode())
        return web.Response(body=body, content_type="text/html", headers={"Content-Encoding": "gzip"})

    async def _slow(self, request: web.Request) -> web.Response:
        await asyncio.sleep(SLOW_S)
        return await self._page(request)

    async def _flaky(self, request: web.Request) -> web.Response:
        self._visits[request.path] += 1
        if self._visits[request.path] == 1:
            raise web.HTTPServiceUnavailable(headers={"Retry-After": str(RETRY_AFTER_S)})
        return await self._page(request)

    async def _big(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):  # the client stops reading at its limit
            for _ in range(BIG_BYTES >> 16):
                await response.write(bytes(1 << 16))
        return response
