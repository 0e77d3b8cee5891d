"""What a request asks for beyond a plain fetch. A plain one has none of this and pays for none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from fetchq import FetchRequest

    from .client import Fetcher
    from .redirect import Hop


def extras_of(fetcher: Fetcher, request: FetchRequest) -> Extras | None:
    """None: the request is a plain one."""
    return Extras(fetcher, request) if request.robots else None


class Extras:
    """How the hops of one attempt are sent."""

    __slots__ = ("_fetcher", "_request")

    def __init__(self, fetcher: Fetcher, request: FetchRequest) -> None:
        self._fetcher = fetcher
        self._request = request

    async def send(self, hop: Hop) -> ClientResponse:
        """As `Fetcher.send`, and raises `Refused` for a hop that is not to be made."""
        request = self._request
        if request.robots:
            await self._fetcher.robots.check(hop.url)
        return await self._fetcher.send(hop, request.connect_timeout_s, request.read_timeout_s)
