"""`make conformance`: arq's own test suite, first with arq's worker, then with another class in its place.

Then the tools made for arq, with both workers (`tools`).

Exits with status 1 if stock arq fails its own tests here, if a test fails that is not listed in exceptions.toml, if
a listed one passes, or if a tool made for arq observes anything else under fetchq.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from typing import Final

from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

from . import environment, tools, verdict

STOCK: Final = "arq.worker:Worker"
DEFAULT: Final = "fetchq_worker.engine:Worker"
RUN_TIMEOUT_S: Final = 600
REDIS_5_WARNING: Final = "ignore:Call to deprecated close:DeprecationWarning"
"""arq and its tests call `close()` of redis-py 4. arq's lock has redis-py 4.6; fetchq-worker needs 5, where that name
is deprecated."""

AT_NOON: Final = f"XXX{time.gmtime().tm_hour - 12:+d}"
"""A POSIX time zone in which it is noon: some tests of arq have a cron job at one o'clock, and fail in that hour."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.conformance", description=__doc__.splitlines()[0])
    parser.add_argument("--worker", default=DEFAULT, metavar="MODULE:CLASS", help="the class to try (%(default)s)")
    parser.add_argument("--only", choices=("suite", "tools"), help="try arq's suite alone, or the tools alone")
    parser.add_argument("tests", nargs="*", help="tests of arq's to run, as pytest takes them (all)")
    options = parser.parse_args()
    if shutil.which("redis-server") is None:
        print("make conformance needs redis-server on the PATH: Debian's will do", file=sys.stderr)
        return 1
    with_tools = options.only != "suite" and options.worker == DEFAULT and not options.tests
    problems = []
    try:
        if options.only != "tools":
            environment.SUITE.prepare()
            environment.fetch_suite()
            problems += _try_suite(options.worker, options.tests)
        if with_tools:
            environment.TOOLS.prepare()
            environment.DASHBOARD.prepare()
            print("\nTools made for arq", flush=True)
            problems += tools.try_tools()
    except subprocess.CalledProcessError as problem:
        print(f"make conformance could not set up {environment.FOLDER.name}: pip ended with {problem.returncode}")
        return 1
    return _end(problems)


def _try_suite(worker: str, tests: list[str]) -> list[str]:
    """Problems of arq's own suite, as sentences."""
    stock = _run(STOCK, tests)
    problems = verdict.judge_stock(stock)
    if problems:
        return problems
    swapped = _run(worker, tests)
    listed = {} if worker == STOCK else verdict.read_listed(environment.HERE / "exceptions.toml")
    if tests:
        listed = {test: excuse for test, excuse in listed.items() if test in stock.outcomes}
    for name, run in ((STOCK, stock), (worker, swapped)):
        print(f"{name}: {run.summary()}")
    _show_not_passed(stock, listed)
    return verdict.judge_swapped(stock, swapped, listed)


def _run(worker: str, tests: list[str]) -> verdict.Run:
    print(f"\narq {environment.ARQ_VERSION}'s tests with {worker}", flush=True)
    report = environment.FOLDER / "report.json"
    report.unlink(missing_ok=True)
    path = os.pathsep.join([str(environment.HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env["TZ"] = AT_NOON
    env |= {"PYTHONPATH": path, "ARQ_SUITE_WORKER": worker, "ARQ_SUITE_REPORT": str(report)}
    env["ARQ_SUITE_REDIS_PORT"] = str(free_port())
    options = ["-q", "-W", REDIS_5_WARNING, "-p", "arq_suite_plugin"]
    command = [str(environment.SUITE.python), "-m", "pytest", *options, *tests]
    redis = RedisServer("--bind", "127.0.0.1", "--port", env["ARQ_SUITE_REDIS_PORT"])
    try:
        ended = subprocess.run(
            command, cwd=environment.ARQ, env=env, stdin=subprocess.DEVNULL, check=False, timeout=RUN_TIMEOUT_S
        )
    finally:
        redis.remove()
    if not report.exists():
        raise SystemExit(f"the run with {worker} ended before it could say how")
    return verdict.Run(outcomes=verdict.read_outcomes(report), exit_status=ended.returncode)


def _show_not_passed(stock: verdict.Run, listed: verdict.Listed) -> None:
    for test, it in stock.outcomes.items():
        if it.outcome == "skipped":
            print(f"  skipped by arq itself: {test}: {it.detail}")
    for test, (excuse, reason) in listed.items():
        print(f"  does not pass: {test}\n    {excuse.replace('_', ' ')}: {reason}")


def _end(problems: list[str]) -> int:
    for problem in problems:
        print(f"NOT CONFORMING: {problem}", file=sys.stderr)
    print("Conforms." if not problems else f"{len(problems)} problems.", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
