"""DNS look-ups whose addresses all pass the guard."""

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
    """Resolves names with c-ares; one forbidden address among several forbids the name.

    `nameservers` (`address:port`) replace the system's.
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
        """Checks a serialised URL that a proxy will connect to; raises `EgressForbidden`.

        The proxy resolves the name itself. The addresses that it has here are checked; a name that does not resolve
        here within `timeout_s` is allowed, since networks that need a proxy often have no public DNS.
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
        except OSError:  # includes TimeoutError
            return

    async def close(self) -> None:
        await self._resolver.close()
