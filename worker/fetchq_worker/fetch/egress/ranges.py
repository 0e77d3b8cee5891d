"""Addresses outside the public internet, and addresses that embed an IPv4 address.

`ipaddress.is_global` is not used: it differs between releases of Python, and 6to4, NAT64, ISATAP and multicast
addresses are global to it.
"""

from __future__ import annotations

from bisect import bisect_right
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

SPECIAL_V4: Final = (
    ("0.0.0.0/8", "this network"),  # RFC 791, section 3.2; Linux connects 0.0.0.0 to loopback
    ("10.0.0.0/8", "private"),  # RFC 1918
    ("100.64.0.0/10", "shared"),  # RFC 6598
    ("127.0.0.0/8", "loopback"),  # RFC 1122, section 3.2.1.3
    ("169.254.0.0/16", "link-local"),  # RFC 3927
    ("172.16.0.0/12", "private"),  # RFC 1918
    ("192.0.0.0/24", "protocol assignments"),  # RFC 6890, section 2.1
    ("192.0.2.0/24", "documentation"),  # RFC 5737
    ("192.31.196.0/24", "AS112"),  # RFC 7535
    ("192.52.193.0/24", "AMT"),  # RFC 7450
    ("192.88.99.0/24", "6to4 relay"),  # RFC 7526
    ("192.168.0.0/16", "private"),  # RFC 1918
    ("192.175.48.0/24", "AS112"),  # RFC 7534
    ("198.18.0.0/15", "benchmarking"),  # RFC 2544
    ("198.51.100.0/24", "documentation"),  # RFC 5737
    ("203.0.113.0/24", "documentation"),  # RFC 5737
    ("224.0.0.0/4", "multicast"),  # RFC 5771
    ("240.0.0.0/4", "reserved"),  # RFC 1112, section 4; the broadcast address (RFC 919, section 7) is its last
)
"""IANA IPv4 Special-Purpose Address Registry, and the multicast space. The globally reachable entries of the registry
(the anycast addresses of AS112, AMT and 192.0.0.0/24) serve no HTTP."""

SPECIAL_V6: Final = (
    ("::/128", "unspecified"),  # RFC 4291, section 2.5.2
    ("::1/128", "loopback"),  # RFC 4291, section 2.5.3
    ("::/96", "IPv4-compatible"),  # RFC 4291, section 2.5.5.1
    ("::ffff:0:0:0/96", "IPv4-translated"),  # RFC 2765, section 2.1 (SIIT)
    ("64:ff9b:1::/48", "local NAT64"),  # RFC 8215
    ("100::/64", "discard"),  # RFC 6666
    ("100:0:0:1::/64", "dummy"),  # RFC 9780
    ("2001::/32", "Teredo"),  # RFC 4380
    ("2001::/23", "protocol assignments"),  # RFC 2928: ORCHID, benchmarking, AMT, drone identifiers and others
    ("2001:db8::/32", "documentation"),  # RFC 3849
    ("2002::/16", "6to4"),  # RFC 3056
    ("2620:4f:8000::/48", "AS112"),  # RFC 7534
    ("3fff::/20", "documentation"),  # RFC 9637
    ("5f00::/16", "segment routing"),  # RFC 9602
    ("fc00::/7", "private"),  # RFC 4193
    ("fe80::/10", "link-local"),  # RFC 4291, section 2.5.6
    ("fec0::/10", "site-local"),  # RFC 3879
    ("ff00::/8", "multicast"),  # RFC 4291, section 2.7
)
"""IANA IPv6 Special-Purpose Address Registry, IPv6 Address Space, and retired forms that stacks still accept."""

_GLOBAL_UNICAST_V6: Final = IPv6Network("2000::/3")
"""All global unicast addresses (IANA IPv6 Address Space registry); outside it only NAT64 is public."""
_NAT64: Final = 0x64FF9B << 64  # without the last 32 bits
"""The well-known prefix (RFC 6052, section 2.1). It is public, since it is the only way to IPv4 from a network with
DNS64 (RFC 6147); the embedded address decides."""

_TEREDO: Final = 0x20010000
_6TO4: Final = 0x2002
_COMPATIBLE: Final = 0
_TRANSLATED: Final = 0xFFFF_0000
_NAT64_LOCAL: Final = 0x64FF9B_0001
_ISATAP: Final = 0x00005EFE
_ISATAP_MASK: Final = 0xFCFFFFFF
"""All bits but the universal and the group bit (RFC 5214, section 6.1)."""
_LOW_32: Final = 0xFFFFFFFF


class _Ranges:
    """Networks as disjoint ranges, so that one bisection finds the rule. Of overlapping networks the first wins."""

    def __init__(self, networks: tuple[tuple[int, int, str], ...]) -> None:
        edges = sorted({0} | {edge for first, last, _ in networks for edge in (first, last + 1)})
        self._starts = edges
        self._rules = [next((rule for first, last, rule in networks if first <= edge <= last), None) for edge in edges]

    def rule_of(self, address: int) -> str | None:
        return self._rules[bisect_right(self._starts, address) - 1]


def _bounds(network: IPNetwork, rule: str) -> tuple[int, int, str]:
    return int(network.network_address), int(network.broadcast_address), rule


def _outside(network: IPv6Network) -> tuple[tuple[int, int, str], ...]:
    first, last, _ = _bounds(network, "")
    return (0, first - 1, "reserved"), (last + 1, (1 << 128) - 1, "reserved")


_V4: Final = _Ranges(tuple(_bounds(IPv4Network(network), rule) for network, rule in SPECIAL_V4))
_V6: Final = _Ranges(
    (*(_bounds(IPv6Network(network), rule) for network, rule in SPECIAL_V6), *_outside(_GLOBAL_UNICAST_V6))
)


def special_purpose(address: IPAddress) -> str | None:
    """The name of the special-purpose range of an address; None: it is public. Embedded addresses are not examined."""
    if isinstance(address, IPv4Address):
        return _V4.rule_of(int(address))
    number = int(address)
    return None if number >> 32 == _NAT64 else _V6.rule_of(number)


def embedded_v4(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses to which a network may translate or tunnel this one.

    Without IPv4-mapped addresses: for these the operating system itself connects over IPv4, so the caller checks the
    mapped address in place of this one.
    """
    number = int(address)
    if number <= 1:  # unspecified and loopback are not IPv4-compatible addresses
        return ()
    found = []
    if number >> 32 in (_COMPATIBLE, _TRANSLATED, _NAT64) or number >> 80 == _NAT64_LOCAL:
        # RFC 6052, section 2.2; the length of a local prefix is unknown, and /96 is assumed.
        found.append(IPv4Address(number & _LOW_32))
    elif number >> 112 == _6TO4:
        found.append(IPv4Address(number >> 80 & _LOW_32))  # RFC 3056, section 2
    elif number >> 96 == _TEREDO:  # the server, and the client with its bits inverted (RFC 4380, section 4)
        found += [IPv4Address(number >> 64 & _LOW_32), IPv4Address(~number & _LOW_32)]
    if number >> 32 & _ISATAP_MASK == _ISATAP:
        found.append(IPv4Address(number & _LOW_32))
    return tuple(found)
