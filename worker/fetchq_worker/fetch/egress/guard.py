"""The egress guard: what may be connected to.

Three places ask it. A URL is judged before the network is asked anything; a name, as a whole, by all that it resolves
to, so that no order of answers and no fallback finds a way around; and what counts in the end is the check of address
and port as a socket is opened.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final

from fetchq import FetchqError
from fetchq.contract.urls import is_address

from .metadata import METADATA_ADDRESSES, is_metadata_name
from .ports import is_open_port
from .ranges import IPAddress, IPNetwork, embedded_v4, special_purpose

LOOPBACKS: Final = ("127.0.0.1", "::1")
"""What `localhost` and all names below it are (RFC 6761, section 6.3)."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_CACHED: Final = 4096


class EgressForbidden(FetchqError, OSError):
    """The egress policy forbids a connection. An OSError, as aiohttp wraps no other kind; it never leaves this package.

    `rule` says which range, port or name it is; neither address nor name is told, as they may be what was asked for.
    """

    def __init__(self, rule: str) -> None:
        super().__init__(f"the egress policy forbids {rule}")
        self.rule = rule


class Guard:
    """The egress policy: public addresses, and those in `allow_net` (CIDR); web ports, and those in `allow_port`.

    An address of a metadata service is open only where a network of that one address is allowed.
    """

    def __init__(self, allow_net: Iterable[str] = (), allow_port: Iterable[int] = ()) -> None:
        self._networks: tuple[IPNetwork, ...] = tuple(ip_network(cidr) for cidr in allow_net)
        self._ports = frozenset(allow_port)
        self._open_metadata = METADATA_ADDRESSES & {
            network.network_address for network in self._networks if network.prefixlen == network.max_prefixlen
        }
        self._rule_of_origin = lru_cache(_CACHED)(self._judge_origin)
        self._rule_of_address = lru_cache(_CACHED)(self._judge_address)

    def __repr__(self) -> str:
        return f"<Guard allow_net={[str(network) for network in self._networks]} allow_port={sorted(self._ports)}>"

    def check_url(self, url: str) -> None:
        """Refuse a serialised URL by its scheme, port, and host: an address, or a name that is not to be looked up.

        Raises `EgressForbidden`.
        """
        # The first slash after the shortest host: a serialised http URL always has one.
        rule = self._rule_of_origin(url[: url.find("/", 8)])
        if rule is not None:
            raise EgressForbidden(rule)

    def check_name(self, name: str) -> None:
        """Refuse a name that is not to be looked up; raises `EgressForbidden`."""
        rule = self._judge_name(name)
        if rule is not None:
            raise EgressForbidden(rule)

    def check_address(self, address: str) -> None:
        """Refuse an address that a name resolves to; raises `EgressForbidden`."""
        rule = self._rule_of_address(address)
        if rule is not None:
            raise EgressForbidden(rule)

    def check_connection(self, address: str, port: int) -> None:
        """Refuse what a socket is about to be opened for; raises `EgressForbidden`."""
        self.check_address(address)
        if not self._is_open(port):
            raise EgressForbidden(f"port {port}")

    def loopbacks(self) -> list[str]:
        """What localhost is here: the loopback addresses that are allowed. The network is not asked."""
        return [address for address in LOOPBACKS if self._rule_of_address(address) is None]

    def _judge_origin(self, origin: str) -> str | None:
        scheme, _, authority = origin.partition("://")
        if scheme not in _DEFAULT_PORTS:
            return "all URLs but http and https"
        host, _, port = authority.rpartition(":")
        if not host or not port.isdigit():  # the last colon may be one of an IPv6 address
            host, port = authority, ""
        rule = self._rule_of_address(host.strip("[]")) if is_address(host) else self._judge_name(host)
        number = int(port) if port else _DEFAULT_PORTS[scheme]
        return rule if rule is not None or self._is_open(number) else f"port {number}"

    def _judge_name(self, name: str) -> str | None:
        name = name.rstrip(".")
        if is_localhost(name):
            return None if self.loopbacks() else "loopback addresses"
        return "cloud metadata services" if is_metadata_name(name) and not self._open_metadata else None

    def _judge_address(self, address: str) -> str | None:
        if "%" in address:  # RFC 4007, section 11
            return "scoped addresses"
        # Parsed by the system, which takes a fraction of ipaddress's time and reads it as the socket will.
        try:
            ip: IPAddress
            if ":" in address:
                ip = IPv6Address(inet_pton(AF_INET6, address))
            else:
                ip = IPv4Address(inet_pton(AF_INET, address))
        except (OSError, ValueError):
            return "malformed addresses"
        if isinstance(ip, IPv4Address):
            return self._judge(ip)
        for embedded in embedded_v4(ip):
            rule = self._judge(embedded)
            if rule is not None:
                return rule
        return self._judge(ip.ipv4_mapped or ip)

    def _judge(self, ip: IPAddress) -> str | None:
        """One address, with nothing inside it."""
        if ip in METADATA_ADDRESSES and ip not in self._open_metadata:
            return "cloud metadata services"
        for network in self._networks:
            if ip in network:
                return None
        special = special_purpose(ip)
        return None if special is None else f"{special} addresses"

    def _is_open(self, port: int) -> bool:
        return is_open_port(port) or port in self._ports


def is_localhost(name: str) -> bool:
    """Whether a name without trailing dots is `localhost` or below it (RFC 6761, section 6.3, items 3 and 4)."""
    return name == "localhost" or name.endswith(".localhost")
