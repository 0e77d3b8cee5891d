"""The figures of these measures and their targets, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from bench.report.results import Machine

BLOCK: Final = "frontier"


class Figure(msgspec.Struct, frozen=True):
    """One line of the table."""

    what: str
    measured: str
    to_reach: str
    reached: bool


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """The size of each measure; the defaults are those of the targets."""

    deep_jobs: int = 1_000_000
    other_jobs: int = 10_000
    other_hosts: int = 1_000
    rate_s: float = 30.0
    rounds: int = 5
    cost_rounds: int = 5
    memory_jobs: int = 20_000


SHORT: Final = Sizes(deep_jobs=50_000, other_jobs=4_000, rate_s=8.0, cost_rounds=2, memory_jobs=5_000)


def tabulate(figures: Sequence[Figure], machine: Machine, taken_at: str) -> str:
    """As Markdown."""
    head = (
        f"Taken {taken_at} on {machine.cores} cores of an {machine.processor}, load before {machine.load_before:g}.\n\n"
    )
    lines = "".join(
        f"| {figure.what} | {figure.measured} | {figure.to_reach} | {'yes' if figure.reached else '**no**'} |\n"
        for figure in figures
    )
    return f"{head}| what | measured | to reach | reached |\n| --- | --- | --- | --- |\n{lines}"
