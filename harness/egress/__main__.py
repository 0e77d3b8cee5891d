"""`make security`: prints the tables of the egress guard; each row is fetched for real and passes or fails.

Exits with status 1 if a row fails.
"""

from __future__ import annotations

import sys
from collections import Counter

import uvloop

from .arena import make_arena
from .bypasses import BYPASSES
from .drive import Verdict, drive_bypass, drive_good
from .good_urls import GOOD


async def main() -> int:
    failed = 0
    for redirected in (False, True):
        rows = []
        for bypass in BYPASSES:
            async with make_arena() as arena:
                verdict = await drive_bypass(arena, bypass, redirected=redirected)
            rows.append((bypass.kind, bypass.url, bypass.source, verdict))
        failed += show("Bypasses, as the Location of a redirect" if redirected else "Bypasses", "blocked", rows)
    rows = []
    for good in GOOD:
        async with make_arena() as arena:
            rows.append((good.kind, good.url, good.source, await drive_good(arena, good)))
    failed += show("Good URLs", "let through", rows)
    return 1 if failed else 0


def show(title: str, what: str, rows: list[tuple[str, str, str, Verdict]]) -> int:
    """Prints a table and its totals. Returns how many rows failed."""
    print(f"\n{title}\n")
    kinds: Counter[str] = Counter()
    good: Counter[str] = Counter()
    for kind, url, source, verdict in rows:
        kinds[kind] += 1
        good[kind] += verdict.passed
        print(f"{'pass' if verdict.passed else 'FAIL'}  {kind:28} {url!a:62} {verdict.seen}  [{source}]")
    print()
    for kind, number in kinds.items():
        print(f"{good[kind]:4} of {number:3} {what}: {kind}")
    print(f"{good.total():4} of {kinds.total():3} {what} in all")
    return kinds.total() - good.total()


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
