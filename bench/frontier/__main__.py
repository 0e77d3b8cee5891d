"""`python -m bench.frontier`: measures the guarantees of per-host limits, each ratio within one run."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.report import page
from bench.report.machine import this_machine
from bench.testbed.failure import BenchFailure
from bench.testbed.processes import stop_on_signals
from bench.testbed.redis_server import RedisServer, redis_server
from bench.testbed.site import Site, nginx_site

from . import cooling, cost, memory, others, rate
from .figures import BLOCK, SHORT, Figure, Sizes, tabulate

Measure = Callable[[RedisServer, Site, Path, Sizes], Awaitable[list[Figure]]]

MEASURES: Final[dict[str, Measure]] = {
    "others": others.measure,
    "rate": rate.measure,
    "cost": cost.measure,
    "cooling": cooling.measure,
    "memory": memory.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.frontier", description="Measures the guarantees of per-host limits."
    )
    parser.add_argument("--only", default="", help=f"measures, comma-separated: {', '.join(MEASURES)}")
    parser.add_argument("--short", action="store_true", help="smaller sizes: two minutes, and no page")
    given = parser.parse_args()
    names = [name.strip() for name in given.only.split(",") if name.strip()] or list(MEASURES)
    if unknown := set(names) - MEASURES.keys():
        parser.error(f"--only knows no {min(unknown)}; there are {', '.join(MEASURES)}")
    whole = names == list(MEASURES) and not given.short
    try:
        return asyncio.run(_run(names, SHORT if given.short else Sizes(), whole=whole))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    except BenchFailure as problem:
        print(f"bench.frontier: {problem}", file=sys.stderr)
        return 1


async def _run(names: Sequence[str], sizes: Sizes, *, whole: bool) -> int:
    stop_on_signals()
    machine, figures = this_machine(), []
    with tempfile.TemporaryDirectory(prefix="fetchq-frontier-") as name:
        for measure in names:
            Path(name).chmod(0o755)  # as for the site: nginx reads as another user
            folder = Path(name, measure)
            folder.mkdir()
            logs = measure in ("rate", "cooling")
            async with (
                redis_server(folder) as server,
                nginx_site(folder / "site", all_loopback=True, logs=logs) as site,
            ):
                for figure in await MEASURES[measure](server, site, folder, sizes):
                    print(f"{figure.what}: {figure.measured} (to reach: {figure.to_reach})", flush=True)
                    figures.append(figure)
    table = tabulate(figures, machine, datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    print(f"\n{table}")
    if whole:
        page.put(BLOCK, table)
    return 0 if all(figure.reached for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
