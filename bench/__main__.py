"""`python -m bench`: what `make bench` runs."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from bench.report.machine import this_machine
from bench.report.page import PAGES
from bench.report.results import Results
from bench.report.tables import compact
from bench.report.write import write as write_report
from bench.testbed.environments import pinned
from bench.testbed.failure import BenchFailure
from bench.testbed.peers import ALL, BARE, SCRAPY, Peer
from bench.testbed.processes import REPO, stop_on_signals
from bench.testbed.redis_server import redis_server
from bench.testbed.site import nginx_site, nginx_version
from bench.testbed.stage import Options, Stage

from .measures import MEASURES

_QUICK_MEASURES: Final = "fetch_2k,empty,enqueue,latency"
_QUICK_PEERS: Final = "fetchq,arq-tuned,saq,bullmq,bare"


def main() -> int:
    names = [measure.name for measure in MEASURES]
    peers = [peer.name for peer in ALL]
    parser = argparse.ArgumentParser(prog="make bench", description="fetchq beside its peers, in one run.")
    parser.add_argument("--only", default="", help=f"measures, comma-separated: {', '.join(names)}")
    parser.add_argument("--peers", default="", help=f"peers, comma-separated: {', '.join(peers)}")
    parser.add_argument("--rounds", type=int, default=Options().rounds)
    parser.add_argument("--concurrency", type=int, default=Options().concurrency)
    parser.add_argument("--window-s", type=float, default=Options().window_s)
    parser.add_argument("--quick", action="store_true", help="the most telling figures in three minutes; no file")
    parser.add_argument("--out", type=Path, help="folder for the results, instead of the page's own or .bench/last")
    given = parser.parse_args()
    try:
        chosen = choose("ONLY", given.only or (_QUICK_MEASURES if given.quick else ""), names)
        wanted = choose("PEERS", given.peers or (_QUICK_PEERS if given.quick else ""), peers)
    except ValueError as problem:
        parser.error(str(problem))
    if not 1 <= given.rounds <= 50:
        parser.error("ROUNDS is from 1 to 50")
    chosen_peers = [peer for peer in ALL if peer.name in wanted]
    options = Options(rounds=given.rounds, concurrency=given.concurrency, window_s=given.window_s)
    if given.quick:
        options = msgspec.structs.replace(options, rounds=min(options.rounds, 3), window_s=1.0, half_load=False)
    whole = options == Options() and not (given.only or given.peers or given.out)
    out = None if given.quick else given.out or (PAGES if whole else REPO / ".bench" / "last")
    try:
        asyncio.run(_run_all(chosen, chosen_peers, options, out, whole=whole))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    except BenchFailure as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    return 0


def choose(option: str, text: str, known: list[str]) -> list[str]:
    """The names in a comma-separated option; none means all.

    The part of a name before its dash selects all such names.
    """
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    chosen = [name for name in known if not wanted or name in wanted or name.split("-")[0] in wanted]
    unknown = [name for name in wanted if name not in known and name not in {k.split("-")[0] for k in known}]
    if unknown:
        raise ValueError(f"{option} knows no {unknown[0]}; there are {', '.join(known)}")
    return chosen


async def _run_all(names: list[str], peers: list[Peer], options: Options, out: Path | None, *, whole: bool) -> None:
    stop_on_signals()
    _raise_open_files()
    results = Results(
        taken_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=this_machine(),
        rounds=options.rounds,
        concurrency=options.concurrency,
    )
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fetchq-bench-")))
        server = await stack.enter_async_context(redis_server(folder))
        site = await stack.enter_async_context(nginx_site(folder))
        stage = Stage(folder, server, site, options, stack)
        for measure in MEASURES:
            if measure.name in names:
                print(f"{measure.name} ({time.monotonic() - started:,.0f} s)", flush=True)
                await measure.run(stage, peers, results)
        servers = {"redis-server": await server.version(), "nginx": await nginx_version(folder)}
        results.versions = {**_pinned_versions(peers), **stage.versions, "servers": servers}
        results.took_s = round(time.monotonic() - started, 1)
        if out is None:
            print(f"\n{compact(results)}\n\ntook {results.took_s:.0f} s, load before {results.machine.load_before:g}")
        else:
            await write_report(results, out, whole=whole, folder=folder)


def _pinned_versions(peers: list[Peer]) -> dict[str, dict[str, str]]:
    """The versions of the peers that have no producer to report them."""
    packages = {BARE: ("aiohttp", "uvloop"), SCRAPY: ("Scrapy", "Twisted")}
    return {peer.name: pinned(peer.environment, packages[peer.name]) for peer in peers if peer.name in packages}


def _raise_open_files() -> None:
    """Raises the limit of open files: two thousand sleeping jobs can need as many connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # if the limit cannot be raised, the measure that needs it fails
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
