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

from bench.report.machine import this_machine
from bench.report.page import PAGES
from bench.report.results import Results
from bench.report.write import write as write_report
from bench.testbed.failure import BenchFailure
from bench.testbed.peers import ALL, Peer
from bench.testbed.processes import REPO, stop_on_signals
from bench.testbed.redis_server import redis_server
from bench.testbed.site import nginx_site, nginx_version
from bench.testbed.stage import Options, Stage

from .measures import MEASURES


def main() -> int:
    names = [measure.name for measure in MEASURES]
    peers = [peer.name for peer in ALL]
    parser = argparse.ArgumentParser(prog="make bench", description="fetchq beside its peers, in one run.")
    parser.add_argument("--only", default="", help=f"measures, comma-separated: {', '.join(names)}")
    parser.add_argument("--peers", default="", help=f"peers, comma-separated: {', '.join(peers)}")
    parser.add_argument("--rounds", type=int, default=Options().rounds)
    parser.add_argument("--concurrency", type=int, default=Options().concurrency)
    parser.add_argument("--window-s", type=float, default=Options().window_s)
    parser.add_argument("--out", type=Path, help="folder for the results, instead of the page's own or .bench/last")
    given = parser.parse_args()
    try:
        chosen = choose("ONLY", given.only, names)
        chosen_peers = [peer for peer in ALL if peer.name in choose("PEERS", given.peers, peers)]
    except ValueError as problem:
        parser.error(str(problem))
    if not 1 <= given.rounds <= 50:
        parser.error("ROUNDS is from 1 to 50")
    options = Options(rounds=given.rounds, concurrency=given.concurrency, window_s=given.window_s)
    whole = options == Options() and not (given.only or given.peers or given.out)
    out = given.out or (PAGES if whole else REPO / ".bench" / "last")
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


async def _run_all(names: list[str], peers: list[Peer], options: Options, out: Path, *, whole: bool) -> None:
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
        results.versions = {**stage.versions, "servers": servers}
        results.took_s = round(time.monotonic() - started, 1)
        await write_report(results, out, whole=whole, folder=folder)


def _raise_open_files() -> None:
    """Raises the limit of open files: two thousand sleeping jobs can need as many connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # if the limit cannot be raised, the measure that needs it fails
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
