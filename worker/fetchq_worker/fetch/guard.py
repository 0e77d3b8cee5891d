"""The egress guard: which addresses may be connected to.

What counts is the check of the final address when a socket is opened; a name is refused as a whole if any of its
addresses is forbidden, so that no order of answers and no fallback finds a way around.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from fetchq import FetchqError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_FORBIDDEN_V4: Final = tuple(
    (ipaddress.IPv4Network(network), rule)
    for network, rule in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "AS112"),
        ("192.52.193.0/24", "AMT"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "AS112"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
"""IANA IPv4 Special-Purpose Address Registry (RFC 6890), and multicast (RFC 5771)."""

_FORBIDDEN_V6: Final = tuple(
    (ipaddress.IPv6Network(network), rule)
    for network, rule in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("2001::/23", "protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "AS112"),
        ("3fff::/20", "documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)
"""IANA IPv6 Special-Purpose Address Registry (RFC 6890). Whatever lies outside 2000::/3 is forbidden too."""

_GLOBAL_UNICAST_V6: Final = ipaddress.IPv6Network("2000::/3")
"""All that IANA has delegated as global unicast (IPv6 Address Space registry)."""


class AddressForbidden(FetchqError, OSError):
    """The egress policy forbids an address. An OSError, as aiohttp wraps no other kind; it never leaves this package.

    `rule` says which range, and no address is told.
    """

    def __init__(self, rule: str) -> None:
        super().__init__(f"the egress policy forbids {rule} addresses")
        self.rule = rule


def is_address(host: str) -> bool:
    """Whether a host out of a serialised WHATWG URL is an address, with or without brackets, and not a name.

    The serialiser has made dotted decimal of every spelling of an IPv4 address, and no name ends in a digit.
    """
    return host[-1:].isdigit() or ":" in host


class Guard:
    """The egress policy: public addresses, and those in `allow_net` (CIDR)."""

    def __init__(self, allow_net: Iterable[str] = ()) -> None:
        self._allowed: tuple[IPNetwork, ...] = tuple(ipaddress.ip_network(cidr) for cidr in allow_net)
        self.forbidding_rule = lru_cache(maxsize=4096)(self._forbidding_rule)
        """The range that forbids an address; None if it may be connected to."""

    def __repr__(self) -> str:
        return f"<Guard allow_net={[str(network) for network in self._allowed]}>"

    def check_host(self, host: str) -> None:
        """Refuse a URL's host where it is an address; a name is judged by what it resolves to.

        Raises `AddressForbidden`.
        """
        if is_address(host):
            self.check_address(host.strip("[]"))

    def check_address(self, address: str) -> None:
        """Refuse an address that is about to be connected to, or that a name resolves to; raises `AddressForbidden`."""
        rule = self.forbidding_rule(address)
        if rule is not None:
            raise AddressForbidden(rule)

    def _forbidding_rule(self, address: str) -> str | None:
        try:
            ip: IPAddress = ipaddress.ip_address(address)
        except ValueError:
            return "malformed"
        if isinstance(ip, ipaddress.IPv6Address):
            if ip.scope_id is not None:
                return "scoped"
            ip = ip.ipv4_mapped or ip
        if any(ip in network for network in self._allowed if network.version == ip.version):
            return None
        if isinstance(ip, ipaddress.IPv4Address):
            return next((rule for network, rule in _FORBIDDEN_V4 if ip in network), None)
        rule = next((rule for network, rule in _FORBIDDEN_V6 if ip in network), None)
        return rule if rule is not None or ip in _GLOBAL_UNICAST_V6 else "reserved"
