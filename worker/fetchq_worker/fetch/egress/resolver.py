"""DNS look-ups whose addresses all pass the guard."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from fetchq.contract.urls import host_of, is_address

from .guard import EgressForbidden, Guard, is_localhost
from .lookup import MAX_ADDRESSES, Lookups, NameServersSilent


class GuardedResolver:
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
