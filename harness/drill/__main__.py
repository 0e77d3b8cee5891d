"""`python -m harness.drill`: causes each fault that an alert is for, and prints which alerts fire.

Exits with status 1 if the alert of a fault does not fire, or another one that the fault does not explain.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from harness.page import Section, where_and_when

from .faults import FAULTS
from .run import Outcome, drill
from .stage import REPOSITORY


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.drill", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", help="the faults whose name contains it")
    parser.add_argument("--shorter-by", type=float, default=30.0, help="divides every time of the alerts (30)")
    parser.add_argument("--write", action="store_true", help="write the table to docs/operations.md")
    given = parser.parse_args()
    faults = [fault for fault in FAULTS if (given.only or "") in fault.name]
    if not faults:
        parser.error(f"--only: no fault has {given.only!r} in its name")
    outcomes = asyncio.run(drill(faults, show, shorter_by=given.shorter_by, at_most_s=30.0))
    if given.write:
        section = Section("drill", REPOSITORY / "docs/operations.md")
        section.write(markdown(outcomes, given.shorter_by, section.read()))
    broken = sum(bool(outcome.problems) for outcome in outcomes)
    print(f"{len(outcomes)} faults, {broken} with a problem")
    return 1 if broken else 0


def show(outcome: Outcome) -> None:
    fault = outcome.fault
    print(f"{fault.name}: {', '.join(sorted(outcome.fired)) or 'nothing fired'}")
    print(f"    after {outcome.fired_after_s:.0f} s; quiet again {outcome.quiet_after_s:.0f} s after its end")
    for name in sorted(outcome.fired & fault.beside.keys()):
        print(f"    {name}: {fault.beside[name]}")
    for problem in outcome.problems:
        print(f"    PROBLEM: {problem}")
    sys.stdout.flush()


def markdown(outcomes: Sequence[Outcome], shorter_by: float, before: str = "") -> str:
    """The table of the page. Rows of faults that did not run stay as they were `before`."""
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in before.splitlines() if line.startswith("| ")}
    rows |= {outcome.fault.name: _row(outcome) for outcome in outcomes}
    return "\n".join(
        (
            f"Every time of the alerts divided by {shorter_by:g}, on {where_and_when()}:",
            "",
            "| fault | alerts that are for it | others that fired, and why |",
            "|---|---|---|",
            *(rows[fault.name] for fault in FAULTS if fault.name in rows),
        )
    )


def _row(outcome: Outcome) -> str:
    fault = outcome.fault
    expected = [name if name in outcome.fired else f"**{name} did not fire**" for name in sorted(fault.alerts)]
    others = [f"{name}: {fault.beside.get(name, '**not explained**')}" for name in outcome.fired - fault.alerts]
    return f"| {fault.name} | {', '.join(expected)} | {'; '.join(sorted(others))} |"


if __name__ == "__main__":
    sys.exit(main())
