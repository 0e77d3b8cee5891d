"""Names to addresses, all of which the guard has seen."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from fetchq.contract.urls import is_address

from .guard import EgressForbidden, Guard, is_localhost

_FAMILIES: Final = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


class GuardedResolver(AbstractResolver):
    """Looks names up by c-ares; one forbidden address among several refuses the name.

    `nameservers` (`address:port`) are asked instead of the system's.
    """

    def __init__(self, guard: Guard, nameservers: Sequence[str] = ()) -> None:
        self._guard = guard
        self._resolver = aiohttp.AsyncResolver(nameservers=nameservers) if nameservers else aiohttp.AsyncResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises `EgressForbidden`, and `OSError` for a name that does not resolve."""
        self._guard.check_name(host)
        if is_localhost(host.rstrip(".")):
            return [
                ResolveResult(hostname=host, host=address, port=port, family=_FAMILIES[address], proto=0, flags=0)
                for address in self._guard.loopbacks()
                if family in (socket.AF_UNSPEC, _FAMILIES[address])
            ]
        answers = await self._resolver.resolve(host, port, family)
        for answer in answers:
            self._guard.check_address(answer["host"])
        return answers

    async def check_behind_proxy(self, url: str, timeout_s: float) -> None:
        """Refuse a serialised URL that a proxy is to connect to in our place; raises `EgressForbidden`.

        The proxy looks its name up by itself. It is judged by what it resolves to here; a name that does not resolve
        here within `timeout_s` is let through, since where a proxy is needed there is often no DNS of the outside.
        """
        self._guard.check_url(url)
        host = URL(url, encoded=True).raw_host or ""
        if is_address(host):
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self.resolve(host, family=socket.AF_UNSPEC)
        except EgressForbidden:
            raise
        except OSError:  # TimeoutError is one
            return

    async def close(self) -> None:
        await self._resolver.close()
