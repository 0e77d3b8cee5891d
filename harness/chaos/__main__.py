"""`make chaos`: every fault alone, then all of them mixed, on real Redis servers and real worker processes.

Exits with status 1 if a guarantee was broken. The seed, which is printed, determines the faults and their order, but
not their timing.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys

from harness.page import where_and_when

from . import report
from .outcome import Outcome
from .run import HOST_LIMIT, run
from .scenarios import ALONE, MIXED, Scenario

ENOUGH = 1_000_000
"""More than enough: a run of a single fault ends before."""


def main() -> int:
    names = [scenario.name for scenario in (*ALONE, MIXED)]
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=1, help="how many mixed runs")
    parser.add_argument("--jobs", type=int, default=20_000, help="how many jobs each mixed run has")
    parser.add_argument("--fault-every-s", type=float, default=2.0, help="how long between two faults of a mixed run")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--only", default="", help=f"comma-separated, of {', '.join(names)}")
    parser.add_argument("--write", action="store_true", help="write its rows to docs/reliability.md")
    given = parser.parse_args()
    only = [name for name in given.only.split(",") if name]
    if unknown := set(only) - set(names):
        parser.error(f"there is no {min(unknown)!r}")
    chosen = [scenario for scenario in (*ALONE, *[MIXED] * given.runs) if not only or scenario.name in only]
    print(
        f"chaos: {len(chosen)} runs, SEED={given.seed}, at most {HOST_LIMIT} fetches of the host at a time", flush=True
    )
    outcomes = asyncio.run(_run_all(chosen, given))
    print(f"\n{report.markdown([report.row(outcome) for outcome in outcomes])}")
    if given.write:
        report.write(outcomes, origin=f"`{_command(given)}` on {where_and_when()}", order=names)
    broken = sum(bool(outcome.broken) for outcome in outcomes)
    print(f"\nchaos: {broken} of {len(outcomes)} runs broke a guarantee, SEED={given.seed}")
    return 1 if broken else 0


def _command(given: argparse.Namespace) -> str:
    """The command that repeats this run."""
    only = f" ONLY={given.only}" if given.only else ""
    mixed = f" RUNS={given.runs} JOBS={given.jobs} FAULT_EVERY_S={given.fault_every_s:g}"
    return f"make chaos{only}{mixed} SEED={given.seed}"


async def _run_all(chosen: list[Scenario], given: argparse.Namespace) -> list[Outcome]:
    outcomes: list[Outcome] = []
    mixed_runs = 0
    for scenario in chosen:
        mixed = scenario.injections is None
        number = mixed_runs
        mixed_runs += mixed
        outcome = await run(
            scenario,
            seed=given.seed if number == 0 or not mixed else f"{given.seed}/{number}",
            jobs=given.jobs if mixed else ENOUGH,
            fault_every_s=given.fault_every_s,
        )
        print(report.line(outcome), flush=True)
        outcomes.append(outcome)
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
