"""The egress guard: which addresses, names and ports may be connected to.

It is applied three times: to each URL before any DNS or connection; to a name by all addresses that it resolves to, so
that no order of records and no fallback avoids it; and, decisive, to the address and port for which a socket is opened.
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
"""The addresses of `localhost` and of all names below it (RFC 6761, section 6.3)."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_CACHED: Final = 4096


class EgressForbidden(FetchqError, OSError):
    """The egress policy forbids a connection. An OSError, since a failed attempt to connect raises no other.

    `rule` names the range, the port or the kind of name. The message contains neither address nor name, which may be
    what an attacker wants to learn.
    """

    def __init__(self, rule: str) -> None:
        super().__init__(f"the egress policy forbids {rule}")
        self.rule = rule


class Guard:
    """The egress policy: public addresses and those in `allow_net` (CIDR), web ports and those in `allow_port`.

    The address of a metadata service is allowed only by a network of that one address.
    """

    def __init__(self, allow_net: Iterable[str] = (), allow_port: Iterable[int] = ()) -> None:
        self._networks: tuple[IPNetwork, ...] = tuple(ip_network(cidr) for cidr in allow_net)
        self._ports = frozenset(allow_port)
        self._open_metadata = METADATA_ADDRESSES & {
            network.network_address for network in self._networks if network.prefixlen == network.max_prefixlen
        }
        self._rule_of_origin = lru_cache(_CACHED)(self._check_origin)
        self._rule_of_address = lru_cache(_CACHED)(self._check_address)

    def __repr__(self) -> str:
        return f"<Guard allow_net={[str(network) for network in self._networks]} allow_port={sorted(self._ports)}>"

    def check_url(self, url: str) -> None:
        """Checks scheme, port and host of a serialised URL. A name is not resolved.

        Raises `EgressForbidden`.
        """
        # A serialised http URL has a slash after its host.
        rule = self._rule_of_origin(url[: url.find("/", 8)])
        if rule is not None:
            raise EgressForbidden(rule)

    def check_name(self, name: str) -> None:
        """Checks a name before it is resolved; raises `EgressForbidden`."""
        rule = self._rule_of_name(name)
        if rule is not None:
            raise EgressForbidden(rule)

    def check_address(self, address: str) -> None:
        """Checks an address that a name resolves to; raises `EgressForbidden`."""
        rule = self._rule_of_address(address)
        if rule is not None:
            raise EgressForbidden(rule)

    def check_connection(self, address: str, port: int) -> None:
        """Checks address and port of a socket that is about to be opened; raises `EgressForbidden`."""
        self.check_address(address)
        if not self._is_open(port):
            raise EgressForbidden(f"port {port}")

    def loopbacks(self) -> list[str]:
        """The allowed addresses of localhost, without a DNS look-up."""
        return [address for address in LOOPBACKS if self._rule_of_address(address) is None]

    def _check_origin(self, origin: str) -> str | None:
        scheme, _, authority = origin.partition("://")
        if scheme not in _DEFAULT_PORTS:
            return "all URLs but http and https"
        host, _, port = authority.rpartition(":")
        if not host or not port.isdigit():  # the last colon may belong to an IPv6 address
            host, port = authority, ""
        rule = self._rule_of_address(host.strip("[]")) if is_address(host) else self._rule_of_name(host)
        number = int(port) if port else _DEFAULT_PORTS[scheme]
        return rule if rule is not None or self._is_open(number) else f"port {number}"

    def _rule_of_name(self, name: str) -> str | None:
        name = name.rstrip(".")
        if is_localhost(name):
            return None if self.loopbacks() else "loopback addresses"
        return "cloud metadata services" if is_metadata_name(name) and not self._open_metadata else None

    def _check_address(self, address: str) -> str | None:
        if "%" in address:  # RFC 4007, section 11
            return "scoped addresses"
        # Parsed by the system: it takes a fraction of ipaddress's time, and agrees with the socket.
        try:
            ip: IPAddress
            if ":" in address:
                ip = IPv6Address(inet_pton(AF_INET6, address))
            else:
                ip = IPv4Address(inet_pton(AF_INET, address))
        except (OSError, ValueError):
            return "malformed addresses"
        if isinstance(ip, IPv4Address):
            return self._rule_of_ip(ip)
        for embedded in embedded_v4(ip):
            rule = self._rule_of_ip(embedded)
            if rule is not None:
                return rule
        return self._rule_of_ip(ip.ipv4_mapped or ip)

    def _rule_of_ip(self, ip: IPAddress) -> str | None:
        """The rule that forbids one address, embedded addresses ignored; None: it is allowed."""
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
