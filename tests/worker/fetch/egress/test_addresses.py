"""The egress guard, address by address. `test_tables` shows that every socket passes it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchq_worker.fetch.egress.guard import EgressForbidden, Guard
from fetchq_worker.fetch.egress.metadata import METADATA_ADDRESSES
from fetchq_worker.fetch.egress.ranges import SPECIAL_V4, SPECIAL_V6, embedded_v4

FORBIDDEN = {
    "0.0.0.0": "this network addresses",
    "10.1.2.3": "private addresses",
    "100.64.0.1": "shared addresses",
    "127.0.0.1": "loopback addresses",
    "127.255.255.254": "loopback addresses",
    "169.254.1.1": "link-local addresses",
    "169.254.169.254": "cloud metadata services",
    "168.63.129.16": "cloud metadata services",
    "172.31.255.255": "private addresses",
    "192.0.0.192": "cloud metadata services",
    "192.0.0.170": "protocol assignments addresses",
    "192.168.0.1": "private addresses",
    "198.19.0.1": "benchmarking addresses",
    "203.0.113.9": "documentation addresses",
    "224.0.0.1": "multicast addresses",
    "255.255.255.255": "reserved addresses",
    "::": "unspecified addresses",
    "::1": "loopback addresses",
    "::ffff:10.0.0.1": "private addresses",
    "::10.0.0.1": "private addresses",
    "::8.8.8.8": "IPv4-compatible addresses",
    "::ffff:0:8.8.8.8": "IPv4-translated addresses",
    "64:ff9b::a00:1": "private addresses",
    "64:ff9b::a9fe:a9fe": "cloud metadata services",
    "64:ff9b:1::808:808": "local NAT64 addresses",
    "100::1": "discard addresses",
    "2001:0:808:808::f7f7:f7f7": "Teredo addresses",
    "2001:20::1": "protocol assignments addresses",
    "2001:db8::1": "documentation addresses",
    "2002:7f00:1::": "loopback addresses",
    "2002:808:808::": "6to4 addresses",
    "3fff::1": "documentation addresses",
    "4000::1": "reserved addresses",
    "5f00::1": "segment routing addresses",
    "fc00::1": "private addresses",
    "fd00:ec2::254": "cloud metadata services",
    "fe80::1": "link-local addresses",
    "fe80::1%eth0": "scoped addresses",
    "fec0::1": "site-local addresses",
    "ff02::1": "multicast addresses",
    "not an address": "malformed addresses",
    "127.1": "malformed addresses",
    "0177.0.0.1": "malformed addresses",
    "": "malformed addresses",
}

EMBEDDINGS = {
    "compatible": "::{}",
    "translated": "::ffff:0:{}",
    "NAT64": "64:ff9b::{}",
    "local NAT64": "64:ff9b:1::{}",
    "ISATAP": "2606:4700::5efe:{}",
    "ISATAP, universal": "2606:4700::200:5efe:{}",
}
"""Prefixes that embed an IPv4 address in the last 32 bits."""


@pytest.mark.parametrize(("address", "rule"), FORBIDDEN.items())
def test_an_address_that_is_not_public_is_forbidden_by_its_rule(address: str, rule: str) -> None:
    with pytest.raises(EgressForbidden, match=f"^the egress policy forbids {rule}$") as caught:
        Guard().check_address(address)
    assert not address or address not in str(caught.value)


@pytest.mark.parametrize("cidr", [cidr for cidr, _ in SPECIAL_V4 + SPECIAL_V6])
def test_a_special_range_is_forbidden_from_its_first_address_to_its_last(cidr: str) -> None:
    network = ip_network(cidr)
    for address in (network.network_address, network.broadcast_address):
        with pytest.raises(EgressForbidden):
            Guard().check_address(str(address))


def test_an_allowed_network_allows_itself_and_no_more() -> None:
    guard = Guard(["10.1.0.0/16", "fd00::/64"])

    guard.check_address("10.1.2.3")
    guard.check_address("::ffff:10.1.2.3")
    guard.check_address("fd00::1")
    for address in ("10.2.0.1", "127.0.0.1", "fd01::1", "::10.1.2.3", "2002:a01:203::"):
        with pytest.raises(EgressForbidden):
            guard.check_address(address)


@pytest.mark.parametrize("address", sorted(map(str, METADATA_ADDRESSES)))
def test_metadata_addresses_are_forbidden_unless_allowed_by_themselves(address: str) -> None:
    wide = Guard(["0.0.0.0/0", "::/0"])
    with pytest.raises(EgressForbidden, match="cloud metadata services"):
        wide.check_address(address)

    version = ip_address(address).version
    with pytest.raises(EgressForbidden, match="cloud metadata services"):
        Guard([str(ip_network(f"{address}/{31 if version == 4 else 127}", strict=False))]).check_address(address)

    Guard([address]).check_address(address)
    others = {str(other) for other in METADATA_ADDRESSES} - {address}
    for other in others:
        with pytest.raises(EgressForbidden, match="cloud metadata services"):
            Guard(["0.0.0.0/0", "::/0", address]).check_address(other)


@pytest.mark.parametrize("form", ["::ffff:{}", *EMBEDDINGS.values()])
def test_an_embedded_metadata_address_is_forbidden(form: str) -> None:
    with pytest.raises(EgressForbidden, match="cloud metadata services"):
        Guard(["0.0.0.0/0", "::/0"]).check_address(form.format("169.254.169.254"))


@pytest.mark.parametrize("inner", ["127.0.0.1", "10.0.0.1", "0.0.0.9", "255.255.255.255"])
@pytest.mark.parametrize("form", EMBEDDINGS.values(), ids=EMBEDDINGS)
def test_an_embedded_address_is_checked_even_if_all_of_ipv6_is_allowed(form: str, inner: str) -> None:
    with pytest.raises(EgressForbidden):
        Guard(["::/0"]).check_address(form.format(inner))
    Guard(["::/0"]).check_address(form.format("8.8.8.8"))


@pytest.mark.parametrize("address", ["2002:7f00:1::", "2001:0:7f00:1::f7f7:f7f7", "2001:0:808:808::80ff:fffe"])
def test_6to4_and_both_addresses_of_teredo_are_checked_if_all_of_ipv6_is_allowed(address: str) -> None:
    with pytest.raises(EgressForbidden, match="loopback addresses"):
        Guard(["::/0"]).check_address(address)


@given(st.integers(0, 2**32 - 1))
def test_embedded_addresses_are_extracted_as_python_does(number: int) -> None:
    sixtofour = IPv6Address((0x2002 << 112) | (number << 80) | 7)
    assert embedded_v4(sixtofour) == (sixtofour.sixtofour,)
    teredo = IPv6Address((0x20010000 << 96) | (number << 64) | (number ^ 0xA5A5A5A5))
    assert embedded_v4(teredo) == teredo.teredo


@given(st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address))
def test_an_address_that_python_calls_private_is_never_allowed(address: IPv4Address | IPv6Address) -> None:
    guard = Guard()
    try:
        guard.check_address(str(address))
    except EgressForbidden:
        return
    assert address.is_global
    assert not address.is_multicast
    assert not address.is_reserved or address in ip_network("64:ff9b::/96")


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_of_ipv4_only_the_registered_ranges_are_forbidden(address: IPv4Address) -> None:
    registered = any(address in ip_network(cidr) for cidr, _ in SPECIAL_V4) or address in METADATA_ADDRESSES
    try:
        Guard().check_address(str(address))
    except EgressForbidden:
        assert registered
    else:
        assert not registered


def test_allowing_another_single_address_allows_no_metadata_name() -> None:
    for guard in (Guard(), Guard(["10.0.0.1/32"]), Guard(["0.0.0.0/0"])):
        with pytest.raises(EgressForbidden, match="cloud metadata services"):
            guard.check_name("metadata.google.internal.")
    Guard(["169.254.169.254/32"]).check_name("metadata.google.internal.")
    assert ip_address("169.254.169.254") in METADATA_ADDRESSES
