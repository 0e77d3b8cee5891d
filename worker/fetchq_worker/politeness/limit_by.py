"""The limit key of a request that names none: its host, its registrable domain, or its address.

All workers of a queue must use the same policy, and producers must know whether it is by host, so it is stored in
Redis.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from fetchq.contract.urls import host_of, is_address
from fetchq.store.hosts import read_limit_by, store_limit_by
from fetchq.store.keys import Keys
from fetchq_worker.settings import LimitBy

from .public_suffixes import registrable_domain

if TYPE_CHECKING:
    from redis.asyncio import Redis

logger = logging.getLogger("fetchq.hosts")

ADDRESS_TTL_S: Final = 60.0
"""How long an address is cached: limits need not follow each change of a round-robin name."""
FAILURE_TTL_S: Final = 10.0
RESOLVE_TIMEOUT_S: Final = 5.0
MAX_KNOWN_HOSTS: Final = 16_384


class KeyPolicy(Protocol):
    """From a serialised URL to a limit key."""

    def key_of(self, url: str) -> str | None:
        """The key; None if it needs a look-up."""

    async def wait_key_of(self, url: str) -> str:
        """The key, after a look-up if it needs one."""


class ByHost:
    def key_of(self, url: str) -> str:
        return host_of(url)

    async def wait_key_of(self, url: str) -> str:
        return host_of(url)


class ByDomain:
    """The key is the registrable domain; for a public suffix or an address, the host itself."""

    def key_of(self, url: str) -> str:
        return _domain_of(host_of(url))

    async def wait_key_of(self, url: str) -> str:
        return self.key_of(url)


class Resolver(Protocol):
    async def addresses(self, host: str, timeout_s: float) -> Sequence[str]:
        """The addresses of a name; raises `OSError`, a `TimeoutError` after `timeout_s`."""


class ByAddress:
    """The lowest address of the host, by the resolver of the fetches. A host that does not resolve is its own key."""

    def __init__(self) -> None:
        self._resolver: Resolver | None = None
        self._known: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lookups: dict[str, asyncio.Task[str]] = {}

    def use(self, resolver: Resolver) -> None:
        """Sets the resolver. Without one, no host resolves."""
        self._resolver = resolver

    def key_of(self, url: str) -> str | None:
        host = host_of(url)
        if is_address(host):
            return lowest([host.strip("[]")])
        key, until_s = self._known.get(host, ("", 0.0))
        return key if until_s > monotonic() else None

    async def wait_key_of(self, url: str) -> str:
        key = self.key_of(url)
        if key is not None:
            return key
        host = host_of(url)
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = asyncio.create_task(self._look_up(host), name=f"address of {host}")
            self._lookups[host] = lookup
            lookup.add_done_callback(lambda _: self._lookups.pop(host, None))
        return await asyncio.shield(lookup)  # cancelling one waiter must not cancel the others

    async def _look_up(self, host: str) -> str:
        key, ttl_s = host, FAILURE_TTL_S
        try:
            if self._resolver is not None:
                key = lowest(await self._resolver.addresses(host, RESOLVE_TIMEOUT_S)) or host
                ttl_s = ADDRESS_TTL_S
        except OSError as problem:  # includes TimeoutError and EgressForbidden
            logger.debug("limit_key.unresolved host=%s error=%s", host, problem)
        self._known[host] = key, monotonic() + ttl_s
        self._known.move_to_end(host)
        while len(self._known) > MAX_KNOWN_HOSTS:
            self._known.popitem(last=False)
        return key


_POLICIES: Final[dict[LimitBy, type[ByHost | ByDomain | ByAddress]]] = {
    LimitBy.HOST: ByHost,
    LimitBy.DOMAIN: ByDomain,
    LimitBy.ADDRESS: ByAddress,
}


async def agreed_policy(redis: Redis, keys: Keys, limit_by: LimitBy) -> ByHost | ByDomain | ByAddress:
    """The policy that `limit_by` names, which is then stored for the whole queue; with `QUEUE`, the stored one."""
    stored = await read_limit_by(redis, keys)
    agreed = LimitBy(stored) if stored in _POLICIES else LimitBy.HOST
    if limit_by is LimitBy.QUEUE or limit_by is agreed:
        return _POLICIES[agreed]()
    logger.warning("limit_by.changed from=%s to=%s", agreed, limit_by)
    await store_limit_by(redis, keys, "" if limit_by is LimitBy.HOST else limit_by.value)
    return _POLICIES[limit_by]()


def _unmapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip


def lowest(addresses: Sequence[str]) -> str | None:
    """The lowest of several addresses, in any order: IPv4 before IPv6, in the form that a URL has.

    An IPv4-mapped address is the IPv4 address: the operating system connects to that one.
    """
    known = [_unmapped(ip_address(address.partition("%")[0])) for address in addresses]
    first = min(known, key=lambda ip: (ip.version, int(ip)), default=None)
    if first is None:
        return None
    return str(first) if first.version == 4 else f"[{first}]"


@lru_cache(maxsize=65_536)
def _domain_of(host: str) -> str:
    return host if is_address(host) else registrable_domain(host) or host
