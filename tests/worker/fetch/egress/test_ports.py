"""Allowed ports, by default and by setting, in a URL and at the socket."""

from __future__ import annotations

import pytest
from harness.egress.arena import NAME, PUBLIC, Arena, make_arena

from fetchq import FetchStatus
from fetchq.command.settings import InvalidSetting
from fetchq_worker.fetch.egress.guard import EgressForbidden, Guard
from fetchq_worker.fetch.egress.ports import is_open_port
from fetchq_worker.settings import Settings

FETCH_STANDARD = """
0 1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 110 111 113 115 117 119
123 135 137 139 143 161 179 389 427 465 512 513 514 515 526 530 531 532 540 548 554 556 563 587 601 636 989
990 993 995 1719 1720 1723 2049 3659 4045 4190 5060 5061 6000 6566 6665 6666 6667 6668 6669 6679 6697 10080
"""
"""The bad ports of the fetch standard ("port blocking"), as listed by web-platform-tests."""


@pytest.mark.parametrize("port", [int(port) for port in FETCH_STANDARD.split()])
def test_no_bad_port_of_the_fetch_standard_is_open(port: int) -> None:
    assert not is_open_port(port)


def test_two_privileged_ports_are_open() -> None:
    assert [port for port in range(-1, 1024) if is_open_port(port)] == [80, 443]


def test_nearly_all_unprivileged_ports_are_open() -> None:
    assert sum(map(is_open_port, range(1024, 65_536))) == 65_536 - 1024 - 21
    assert not is_open_port(65_536)


def test_a_port_is_checked_in_the_url_and_at_the_socket() -> None:
    guard = Guard(allow_port=[25])
    for url in ("http://a/", "https://a/", "http://a:25/", "http://[2606:4700::1]:8080/", "http://1.1.1.1:25/"):
        guard.check_url(url)
    for port in (25, 80, 443, 8080):
        guard.check_connection(PUBLIC, port)
    for url in ("http://a:22/", "https://a:22/", "http://[2606:4700::1]:22/", "http://1.1.1.1:22/"):
        with pytest.raises(EgressForbidden, match="port 22"):
            guard.check_url(url)
    with pytest.raises(EgressForbidden, match="port 22"):
        guard.check_connection(PUBLIC, 22)


@pytest.mark.asyncio
async def test_a_port_allowed_by_the_setting_is_connected_to() -> None:
    async with make_arena(allow_port=(81,)) as arena:
        opened, closed = [await arena.fetch(f"http://{NAME}:{port}/") for port in (81, 82)]

    assert arena.reached == [(PUBLIC, 81)]
    assert opened.status is FetchStatus.CONNECT_ERROR
    assert (closed.status, closed.error) == (FetchStatus.BLOCKED, "the egress policy forbids port 82")


@pytest.mark.asyncio
async def test_a_forbidden_port_costs_no_dns_look_up(arena: Arena) -> None:
    await arena.fetch(f"http://{NAME}:25/")

    assert arena.dns.queries == []


def test_ports_come_from_the_environment_and_from_flags() -> None:
    assert Settings.from_env({"FETCHQ_ALLOW_PORT": "81, 8443 6379"}).allow_port == (81, 8443, 6379)
    assert Settings.from_env({}, allow_port=["81"]).allow_port == (81,)
    for wrong in ("0", "65536", "http", "-1"):
        with pytest.raises(InvalidSetting, match="FETCHQ_ALLOW_PORT"):
            Settings.from_env({"FETCHQ_ALLOW_PORT": wrong})
