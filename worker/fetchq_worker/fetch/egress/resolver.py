"""DNS look-ups whose addresses all pass the guard."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from fetchq.contract.urls import host_of, is_address

from .guard import EgressForbidden, Guard, is_localhost
from .lookup import MAX_ADDRESSES, Lookups, NameServersSilent


class GuardedResolver(AbstractResolver):
    """Resolves names; one forbidden address among several forbids the name.

    `nameservers` (`address:port`) replace the system's.
    """

    def __init__(self, guard: Guard, nameservers: Sequence[str] = ()) -> None:
        self._guard: Final = guard
        self._lookups: Final = Lookups(nameservers)

    async def addresses(self, host: str, timeout_s: float | None = None) -> tuple[str, ...]:
        """The addresses of a name, at most `MAX_ADDRESSES`, in the order in which they should be tried.

        Raises `EgressForbidden`, `NameUnresolved`, and `NameServersSilent` after `timeout_s`.
        """
        self._guard.check_name(host)
        if is_localhost(host.rstrip(".")):
            return tuple(self._guard.loopbacks())
        found = self._lookups.cached(host)
        if found is None:
            try:
                async with asyncio.timeout(timeout_s):
                    found = await self._lookups.resolve(host)
            except TimeoutError as problem:
                raise NameServersSilent from problem
        for address in found:
            self._guard.check_address(address)
        return found[:MAX_ADDRESSES]

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """`addresses` for aiohttp's connector."""
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=0)
            for address in await self.addresses(host)
            if family in (socket.AF_UNSPEC, kind := socket.AF_INET6 if ":" in address else socket.AF_INET)
        ]

    async def check_behind_proxy(self, url: str, timeout_s: float) -> None:
        """Checks a serialised URL that a proxy will connect to; raises `EgressForbidden`.

        The proxy resolves the name itself. The addresses that it has here are checked; a name that does not resolve
        here within `timeout_s` is allowed, since networks that need a proxy often have no public DNS.
        """
        self._guard.check_url(url)
        host = host_of(url)
        if is_address(host):
            return
        try:
            await self.addresses(host, timeout_s)
        except EgressForbidden:
            raise
        except OSError:  # includes NameServersSilent
            return

    async def close(self) -> None:
        await self._lookups.aclose()
