"""The tables of `make security`, a test for each row, and a test that their oracle detects violations."""

from __future__ import annotations

import pytest
from harness.egress.arena import Arena, make_arena
from harness.egress.bypasses import BYPASSES, Bypass
from harness.egress.drive import drive_bypass, drive_good
from harness.egress.good_urls import GOOD, Good

from fetchq import FetchStatus

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("row", BYPASSES, ids=lambda row: ascii(row.url))
async def test_no_bypass_opens_a_connection(arena: Arena, row: Bypass) -> None:
    verdict = await drive_bypass(arena, row, redirected=False)
    assert verdict.passed, verdict.seen


@pytest.mark.parametrize("row", BYPASSES, ids=lambda row: ascii(row.url))
async def test_no_bypass_behind_a_redirect_opens_a_connection(arena: Arena, row: Bypass) -> None:
    verdict = await drive_bypass(arena, row, redirected=True)
    assert verdict.passed, verdict.seen


@pytest.mark.parametrize("row", GOOD, ids=lambda row: ascii(row.url))
async def test_no_good_url_is_blocked(arena: Arena, row: Good) -> None:
    verdict = await drive_good(arena, row)
    assert verdict.passed, verdict.seen


async def test_a_forbidden_connection_would_be_detected() -> None:
    async with make_arena(allow_net=("127.0.0.0/8",)) as arena:
        result = await arena.fetch(arena.inside.url)

        assert result.status is FetchStatus.OK
        assert arena.reached == [("127.0.0.1", arena.inside.port)]
        assert arena.inside.connections == 1
        plain = next(row for row in BYPASSES if row.url == "http://127.0.0.1:{port}/")
        assert not (await drive_bypass(arena, plain, redirected=False)).passed


async def test_a_good_url_with_a_wrong_destination_would_be_detected() -> None:
    async with make_arena() as arena:
        arena.dns.default = ("93.184.215.15",)
        named = next(row for row in GOOD if row.url == "http://public.example/")
        assert not (await drive_good(arena, named)).passed
