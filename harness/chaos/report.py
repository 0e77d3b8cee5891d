"""The table of `make chaos`, on the terminal and in docs/reliability.md.

On the page, the rows of a run replace those of the same name and leave the others. Above the table, the page says which
command wrote which rows, and on which machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from harness.chaos.judge.verdict import NEVER
from harness.page import Section

from .outcome import Outcome

SECTION: Final = Section("chaos")
_ORIGIN: Final = re.compile(r"^- (.+): ([a-z_, ]+)$", re.MULTILINE)
COLUMNS: Final = (
    "fault", "injections", "jobs", "finished", "queued", "LOST", "double commits", "stale commits", "runs twice",
    "unexplained", "most at once", "over the limit", "over past lease", "90 % again after",
)  # fmt: skip


def row(outcome: Outcome) -> tuple[str, ...]:
    verdict = outcome.verdict
    return (
        outcome.scenario.name,
        str(len(outcome.injections)),
        f"{verdict.jobs:,}",
        f"{verdict.finished:,}",
        f"{verdict.queued:,}",
        f"{len(verdict.lost):,}",
        f"{verdict.double_commits:,}",
        f"{verdict.stale_commits:,}",
        f"{verdict.duplicate_runs:,}",
        f"{verdict.unexplained_runs:,}",
        f"{verdict.most_open:,}",
        f"{verdict.over_limit:,}",
        f"{verdict.over_past_lease:,}",
        _recovery(outcome),
    )


def _recovery(outcome: Outcome) -> str:
    """The slowest recovery of the run, with the goal if that was missed. A missed goal breaks no guarantee."""
    known = [seconds for seconds in outcome.recoveries_s if seconds is not None]
    if not known or outcome.scenario.injections is None:
        return "-"
    longest, goal_s = max(known), outcome.scenario.goal_s
    said = "never" if longest == NEVER else f"{longest:.1f} s"
    return said if goal_s is None or longest <= goal_s else f"{said}, goal {goal_s:g} s"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows]
    return "\n".join(lines)


def merged(old: str, new: Sequence[tuple[str, ...]], *, origin: str, order: Sequence[str]) -> str:
    """The new text of the page: the `new` rows, of `origin`, and the present rows of other names.

    Present rows are read by column name; a missing column becomes `-`. `order` is the order of the names.
    """
    replaced = {cells[0] for cells in new}
    kept = [cells for cells in _rows(old) if cells[0] not in replaced]
    rows = sorted((*kept, *new), key=lambda cells: order.index(cells[0]) if cells[0] in order else len(order))
    origins = [
        (said, [name for name in names.split(", ") if name not in replaced]) for said, names in _ORIGIN.findall(old)
    ]
    origins = [(said, names) for said, names in origins if names]
    origins.append((origin, sorted(replaced, key=order.index)))
    lines = [f"- {said}: {', '.join(names)}" for said, names in origins]
    return "\n".join(("Which command wrote which rows, and where:", "", *lines, "", markdown(rows)))


def _rows(text: str) -> list[tuple[str, ...]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    if not lines:
        return []
    head, _, *rows = lines
    named: list[Mapping[str, str]] = [dict(zip(head, cells, strict=True)) for cells in rows]
    return [tuple(cells.get(column, "-") for column in COLUMNS) for cells in named]


def line(outcome: Outcome) -> str:
    """One run on the terminal."""
    said = ", ".join(f"{value} {name}" for name, value in zip(COLUMNS[1:], row(outcome)[1:], strict=True))
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(outcome.reasons.items())) or "none"
    failed = "".join(f"\n    failed: {count} x {what}" for what, count in outcome.verdict.failed.items())
    broken = "".join(f"\n    BROKEN: {sentence}" for sentence in outcome.broken)
    logs = f"\n    logs: {outcome.folder}" if outcome.folder else ""
    return f"{outcome.scenario.name}: {said}; claimed again: {why}; {outcome.took_s:.0f} s{failed}{broken}{logs}"


def write(outcomes: Sequence[Outcome], *, origin: str, order: Sequence[str], section: Section = SECTION) -> None:
    """Writes the rows of the outcomes to the page."""
    rows = [row(outcome) for outcome in outcomes]
    section.write(merged(section.read(), rows, origin=origin, order=order))
