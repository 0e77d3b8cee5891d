"""`make soak`: runs a load, prints the outcome, and exits with status 1 if a key remains or memory grew."""

from __future__ import annotations

import argparse
import asyncio
import sys

from harness.page import Section

from . import report, run
from .outcome import Load


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=run.__doc__)
    parser.add_argument("--jobs", type=int, default=10_000_000)
    parser.add_argument("--write", action="store_true", help="write the figures to docs/reliability.md")
    given = parser.parse_args()
    warm_up = given.jobs // 10
    outcome = asyncio.run(run.soak(Load(jobs=given.jobs - warm_up, warm_up=warm_up)))
    print(f"soak: {report.line(outcome)}")
    for sentence in outcome.broken:
        print(f"    BROKEN: {sentence}")
    if given.write:
        Section("soak").write(report.markdown(outcome, f"make soak JOBS={given.jobs}"))
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
