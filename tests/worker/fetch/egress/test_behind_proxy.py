"""Targets that a proxy connects to are checked before."""

from __future__ import annotations

import asyncio

import pytest
from harness.egress.arena import NAME, Arena
from harness.egress.bypasses import BYPASSES, NAMES

from fetchq import FetchStatus
from fetchq.contract.urls import normalise_url
from fetchq_worker.fetch.egress.guard import EgressForbidden

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("url", [row.url for row in BYPASSES if row.outcome is FetchStatus.BLOCKED], ids=ascii)
async def test_a_target_that_is_forbidden_is_forbidden_behind_a_proxy(arena: Arena, url: str) -> None:
    arena.dns.names.update({name: [answers] for name, answers in NAMES.items()})

    with pytest.raises(EgressForbidden):
        await arena.fetcher.client.resolver.check_behind_proxy(normalise_url(url.replace("{port}", "8080")), 5.0)


@pytest.mark.parametrize("url", [f"http://{NAME}/", "https://1.1.1.1/", "http://[2606:4700::1]:8080/"])
async def test_a_public_target_goes_to_the_proxy(arena: Arena, url: str) -> None:
    await arena.fetcher.client.resolver.check_behind_proxy(url, 5.0)

    assert arena.reached == []


async def test_a_name_that_only_the_proxy_knows_goes_to_the_proxy(arena: Arena) -> None:
    arena.dns.default = None

    await arena.fetcher.client.resolver.check_behind_proxy(f"http://{NAME}/", 5.0)


async def test_a_silent_dns_server_delays_no_longer_than_the_timeout(arena: Arena) -> None:
    arena.dns.silent = True

    async with asyncio.timeout(4.0):
        await arena.fetcher.client.resolver.check_behind_proxy(f"http://{NAME}/", 0.2)
        with pytest.raises(EgressForbidden, match="cloud metadata services"):
            await arena.fetcher.client.resolver.check_behind_proxy("http://metadata.google.internal/", 0.2)
