"""The verdict on two runs of arq's suite: one with arq's own worker, one with another class."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec


class Excuse(StrEnum):
    """The only two reasons for which a test of arq may fail under another worker."""

    UNDERSCORE = "reaches_into_underscore_methods"
    ROUND_TRIPS = "counts_arqs_own_round_trips"


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of one test. `detail` is the first line of the reason for a failure or a skip."""

    outcome: str
    detail: str = ""


class Run(msgspec.Struct, frozen=True):
    """One run of the suite: the outcome of each test, and pytest's exit status."""

    outcomes: Mapping[str, Outcome]
    exit_status: int = 0

    def summary(self) -> str:
        count = Counter(it.outcome for it in self.outcomes.values())
        return ", ".join(f"{count[kind]} {kind}" for kind in ("passed", "failed", "skipped"))

    def failures(self) -> list[str]:
        """A sentence for each failed test; one sentence if all passed but pytest reports an error."""
        failed = [f"{test} failed: {it.detail}" for test, it in self.outcomes.items() if it.outcome == "failed"]
        if self.exit_status and not failed:
            return [f"no test failed, but pytest ended with status {self.exit_status}"]
        return failed


Listed = Mapping[str, tuple[Excuse, str]]

_outcomes: Final = msgspec.json.Decoder(dict[str, Outcome])


def read_outcomes(report: Path) -> dict[str, Outcome]:
    return _outcomes.decode(report.read_bytes())


def read_listed(path: Path) -> dict[str, tuple[Excuse, str]]:
    """The committed list: a table for each reason, with a sentence for each test. Raises `ValueError`."""
    listed: dict[str, tuple[Excuse, str]] = {}
    for name, tests in tomllib.loads(path.read_text(encoding="utf-8")).items():
        excuse = Excuse(name)
        for test, reason in tests.items():
            if not isinstance(reason, str) or not reason.strip():
                raise ValueError(f"{test} is listed without a reason")
            if test in listed:
                raise ValueError(f"{test} is listed twice")
            listed[test] = (excuse, reason)
    return listed


def judge_stock(stock: Run) -> list[str]:
    """Problems of the run with arq's own worker. With any, the other run proves nothing."""
    if not any(it.outcome == "passed" for it in stock.outcomes.values()):
        return ["stock arq: not one test passed"]
    return [f"stock arq: {failure}" for failure in stock.failures()]


def judge_swapped(stock: Run, swapped: Run, listed: Listed) -> list[str]:
    """Problems of the run with the other class, as sentences; empty if it conforms."""
    problems = [f"{test} is listed, but arq has no such test" for test in listed if test not in stock.outcomes]
    if not any(it.outcome == "failed" for it in swapped.outcomes.values()):
        problems += swapped.failures()
    for test, before in stock.outcomes.items():
        if before.outcome != "passed":
            continue
        after = swapped.outcomes.get(test, Outcome("missing", "it did not run at all"))
        if after.outcome == "passed" and test in listed:
            problems.append(f"{test} passes: take it off the list")
        elif after.outcome != "passed" and test not in listed:
            problems.append(f"{test} {after.outcome}: {after.detail}")
    return problems
