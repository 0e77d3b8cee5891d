"""DNS rebinding: a name that resolves to one address when it is checked and to another when it is used."""

from __future__ import annotations

import asyncio

import pytest
from harness.egress.arena import NAME, REDIRECTOR, Arena

from fetchq import FetchStatus

pytestmark = pytest.mark.asyncio


async def test_the_checked_address_is_the_one_connected_to(arena: Arena) -> None:
    arena.dns.names[NAME] = [(REDIRECTOR,), ("127.0.0.1",)]

    result = await arena.fetch(f"http://{NAME}:{arena.redirector.port}/", fetcher=arena.redirected)

    assert result.status is FetchStatus.OK
    assert arena.watch.connects == [(REDIRECTOR, arena.redirector.port)]
    assert sorted(arena.dns.queries) == [(NAME, "A"), (NAME, "AAAA")], "one look-up, and no second one to turn"


async def test_a_name_rebound_to_a_private_address_is_blocked_at_the_second_look_up(arena: Arena) -> None:
    arena.dns.names[NAME] = [(REDIRECTOR,), ("127.0.0.1",)]
    arena.redirector.location = f"http://{NAME}:{arena.inside.port}/"  # another port: another connection and look-up

    result = await arena.fetch(f"http://{NAME}:{arena.redirector.port}/", fetcher=arena.redirected)

    assert (result.status, result.error) == (FetchStatus.BLOCKED, "the egress policy forbids loopback addresses")
    assert arena.dns.queries.count((NAME, "A")) == 2
    assert arena.reached == []
    assert arena.inside.connections == 0


async def test_a_name_with_random_addresses_never_reaches_a_private_one(arena: Arena) -> None:
    turns = [(REDIRECTOR,), ("127.0.0.1",), (REDIRECTOR, "127.0.0.1"), ("127.0.0.1", REDIRECTOR)]
    for number in range(40):
        arena.dns.names[f"{number}.example"] = turns[number % 4 :] + turns[: number % 4]

    await asyncio.gather(
        *(
            arena.fetch(f"http://{number % 40}.example:{port}/", fetcher=arena.redirected)
            for number in range(80)
            for port in (arena.inside.port, arena.redirector.port)
        )
    )

    assert {address for address, _ in arena.watch.connects} == {REDIRECTOR}
    assert arena.inside.connections == 0
    assert arena.redirector.connections > 0


async def test_an_alias_is_checked_by_its_final_addresses(arena: Arena) -> None:
    arena.dns.names = {NAME: [("-> b.example",)], "b.example": [("-> c.example",)], "c.example": [("10.0.0.1",)]}

    result = await arena.fetch(f"http://{NAME}/")

    assert (result.status, result.error) == (FetchStatus.BLOCKED, "the egress policy forbids private addresses")


async def test_both_address_families_are_checked(arena: Arena) -> None:
    arena.dns.names = {"four.example": [("93.184.215.14", "fd00::1")], "six.example": [("2606:4700::1", "10.0.0.1")]}

    results = [await arena.fetch(f"http://{name}/") for name in arena.dns.names]

    assert [result.status for result in results] == [FetchStatus.BLOCKED] * 2
    assert arena.reached == []
