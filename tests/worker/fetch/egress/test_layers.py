"""The three checks of the guard: each one blocks without the other two."""

from __future__ import annotations

import pytest
from harness.egress.arena import NAME, PUBLIC, Arena, make_arena

from fetchq import FetchStatus
from fetchq_worker.fetch import Fetcher

pytestmark = pytest.mark.asyncio


def _open(monkeypatch: pytest.MonkeyPatch, fetcher: Fetcher, *checks: str) -> None:
    for check in checks:
        monkeypatch.setattr(fetcher.guard, check, lambda *_: None)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost"])
async def test_the_url_is_checked_before_any_dns_look_up(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    _open(monkeypatch, arena.fetcher, "check_name", "check_address", "check_connection")

    result = await arena.fetch(f"http://{host}:{arena.inside.port}/")

    assert result.status is FetchStatus.BLOCKED
    assert arena.dns.queries == []


@pytest.mark.parametrize("bad_at", [0, 1, 2])
async def test_one_forbidden_address_among_several_forbids_the_name(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, bad_at: int
) -> None:
    _open(monkeypatch, arena.fetcher, "check_url", "check_connection")
    answers = [PUBLIC, "2606:4700:4700::1111"]
    answers.insert(bad_at, "192.168.0.1")
    arena.dns.names[NAME] = [tuple(answers)]

    result = await arena.fetch(f"http://{NAME}/")

    assert (result.status, result.error) == (FetchStatus.BLOCKED, "the egress policy forbids private addresses")
    assert arena.reached == []


@pytest.mark.parametrize("answers", [("127.0.0.1",), ("::1", "127.0.0.1"), ("::ffff:127.0.0.1",)])
async def test_the_socket_factory_alone_forbids_a_connection(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, answers: tuple[str, ...]
) -> None:
    guard = arena.fetcher.guard
    _open(monkeypatch, arena.fetcher, "check_url", "check_name")
    monkeypatch.setattr(arena.fetcher.client.resolver, "_guard", type(guard)(["0.0.0.0/0", "::/0"]))
    arena.dns.names[NAME] = [answers]

    results = [
        await arena.fetch(url)
        for url in (f"http://{NAME}:{arena.inside.port}/", arena.inside.url, f"http://{PUBLIC}:22/")
    ]

    assert [result.status for result in results] == [FetchStatus.BLOCKED] * 3
    assert arena.reached == []
    assert arena.inside.connections == 0
    _open(monkeypatch, arena.fetcher, "check_connection")
    assert (await arena.fetch(arena.inside.url)).status is FetchStatus.OK, "with no layer left, it is reached"


async def test_localhost_has_the_allowed_loopback_addresses_without_a_look_up() -> None:
    async with make_arena(allow_net=("127.0.0.1/32",)) as arena:
        results = [
            await arena.fetch(f"http://{name}:{arena.inside.port}/")
            for name in ("localhost", "LOCALHOST.", "app.localhost")
        ]

    assert [result.status for result in results] == [FetchStatus.OK] * 3
    assert arena.dns.queries == []
    assert {address for address, _ in arena.reached} == {"127.0.0.1"}


async def test_a_metadata_name_is_not_resolved_whatever_networks_are_allowed() -> None:
    async with make_arena(allow_net=("0.0.0.0/0", "::/0")) as arena:
        result = await arena.fetch("http://metadata.google.internal/computeMetadata/v1/")

    assert (result.status, result.error) == (FetchStatus.BLOCKED, "the egress policy forbids cloud metadata services")
    assert arena.dns.queries == []


async def test_a_metadata_address_allowed_by_itself_is_reachable_by_address_and_name() -> None:
    async with make_arena(allow_net=("169.254.169.254/32",)) as arena:
        arena.dns.names["metadata.google.internal"] = [("169.254.169.254",)]
        await arena.fetch("http://169.254.169.254/")
        await arena.fetch("http://metadata.google.internal/")
        other = await arena.fetch("http://169.254.170.2/")

    assert arena.reached == [("169.254.169.254", 80)] * 2
    assert other.status is FetchStatus.BLOCKED


async def test_the_resolver_refuses_a_metadata_name(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    _open(monkeypatch, arena.fetcher, "check_url")

    result = await arena.fetch("http://metadata.google.internal/")

    assert result.status is FetchStatus.BLOCKED
    assert arena.dns.queries == []
