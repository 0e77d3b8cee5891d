"""Fetches one row of a table for real, and decides by the sockets that were opened."""

from __future__ import annotations

from typing import NamedTuple

from fetchq import FetchResult

from .arena import Arena
from .bypasses import NAMES, Bypass
from .good_urls import Good


class Verdict(NamedTuple):
    passed: bool
    seen: str
    """The outcome, to display."""


async def drive_bypass(arena: Arena, row: Bypass, *, redirected: bool) -> Verdict:
    """Passes if no private address was connected to, and the outcome is that of the row."""
    arena.dns.names.update({name: [answers] for name, answers in NAMES.items()})
    url = row.url.replace("{port}", str(arena.inside.port))
    result = await (arena.fetch_redirected(url) if redirected else arena.fetch(url))
    reached = arena.reached
    passed = (
        not reached
        and not arena.inside.connections
        and result.status is (row.as_location if redirected else row.outcome)
    )
    return Verdict(passed, _describe(result, reached))


async def drive_good(arena: Arena, row: Good) -> Verdict:
    """Passes if the only connection went to the address of the row."""
    result = await arena.fetch(row.url)
    reached = arena.reached
    return Verdict(reached == [(row.address, row.port)], _describe(result, reached))


def _describe(result: FetchResult, reached: list[tuple[str, int]]) -> str:
    text = f"{result.status}: {result.error}"
    return f"{text}; connected to {reached}" if reached else text
