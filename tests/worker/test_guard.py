"""The egress guard, by address; that every socket passes it is shown where sockets are opened."""

from __future__ import annotations

from unittest.mock import AsyncMock

import pytest
from tests.worker.site import Site, answer

from fetchq import FetchRequest, FetchStatus
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.client import _GuardedResolver
from fetchq_worker.fetch.guard import AddressForbidden, Guard

FORBIDDEN = {
    "0.0.0.0": "this network",
    "10.1.2.3": "private",
    "100.64.0.1": "shared",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "169.254.169.254": "link-local",
    "172.31.255.255": "private",
    "192.0.0.192": "protocol assignments",
    "192.168.0.1": "private",
    "198.19.0.1": "benchmarking",
    "203.0.113.9": "documentation",
    "224.0.0.1": "multicast",
    "255.255.255.255": "reserved",
    "::": "unspecified",
    "::1": "loopback",
    "::ffff:10.0.0.1": "private",
    "::10.0.0.1": "reserved",
    "64:ff9b::a00:1": "NAT64",
    "64:ff9b:1::1": "NAT64",
    "100::1": "reserved",
    "2001::1": "protocol assignments",
    "2001:db8::1": "documentation",
    "2002:7f00:1::": "6to4",
    "3fff::1": "documentation",
    "5f00::1": "reserved",
    "fc00::1": "private",
    "fd00:ec2::254": "private",
    "fe80::1": "link-local",
    "fe80::1%eth0": "scoped",
    "fec0::1": "reserved",
    "ff02::1": "multicast",
    "not an address": "malformed",
}
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.215.14",
    "172.32.0.1",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "100.128.0.1",
]


@pytest.mark.parametrize(("address", "rule"), FORBIDDEN.items())
def test_an_address_that_is_not_public_is_forbidden_by_its_rule(address: str, rule: str) -> None:
    with pytest.raises(AddressForbidden, match=f"forbids {rule} addresses") as caught:
        Guard().check_address(address)
    assert address not in str(caught.value)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    Guard().check_address(address)


def test_a_network_that_is_allowed_is_allowed_and_no_more() -> None:
    guard = Guard(["10.1.0.0/16", "fd00::/64"])

    guard.check_address("10.1.2.3")
    guard.check_address("::ffff:10.1.2.3")
    guard.check_address("fd00::1")
    for address in ("10.2.0.1", "127.0.0.1", "fd01::1"):
        with pytest.raises(AddressForbidden):
            guard.check_address(address)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "host",
    ["0177.0.0.1", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:7f00:1]", "①②⑦.0.0.1", "127。0。0。1", "0"],
)
async def test_no_way_to_write_loopback_opens_a_connection(site: Site, host: str) -> None:
    site.serve("/", answer())

    async with Fetcher(user_agent="x") as guarded:
        result = await fetch({"fetcher": guarded}, FetchRequest(url=f"http://{host}:{site.port}/"))

    assert result.status is FetchStatus.BLOCKED
    assert site.connections == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("bad_at", [0, 1, 2])
async def test_one_forbidden_answer_among_several_refuses_the_name(
    monkeypatch: pytest.MonkeyPatch, bad_at: int
) -> None:
    answers = ["93.184.215.14", "2606:4700:4700::1111"]
    answers.insert(bad_at, "::ffff:192.168.0.1")
    names = AsyncMock(return_value=[{"host": address} for address in answers])  # c-ares' part
    monkeypatch.setattr("aiohttp.AsyncResolver.resolve", names)
    resolver = _GuardedResolver(Guard())

    with pytest.raises(AddressForbidden, match="private"):
        await resolver.resolve("rebound.example", 80)

    names.return_value.pop(bad_at)
    assert len(await resolver.resolve("rebound.example", 80)) == 2
    await resolver.close()


@pytest.mark.asyncio
async def test_the_socket_is_guarded_even_where_nothing_before_it_is(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.serve("/", answer())

    async with Fetcher(user_agent="x") as guarded:
        monkeypatch.setattr(guarded.guard, "check_host", lambda host: None)
        result = await fetch({"fetcher": guarded}, FetchRequest(url=site.url("/")))

    assert result.status is FetchStatus.BLOCKED
    assert site.connections == 0
