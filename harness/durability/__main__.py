"""`make durability`: runs every case, and with --write puts the table into docs/reliability.md."""

from __future__ import annotations

import asyncio
import sys

from harness.page import Section

from .cases import CASES, pull_plug, table


async def _main() -> None:
    outcomes = {}
    for case in CASES:
        outcomes[case] = outcome = await pull_plug(case)
        print(f"{case}: {outcome.acknowledged:,} acknowledged, {outcome.lost:,} lost", flush=True)
    if "--write" in sys.argv:
        Section("plug").write(table(outcomes))


if __name__ == "__main__":
    asyncio.run(_main())
