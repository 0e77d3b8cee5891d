"""The table of `make chaos`, on the terminal and in docs/reliability.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.chaos.run import Outcome

BEGIN: Final = "<!-- chaos: begin -->"
END: Final = "<!-- chaos: end -->"
COLUMNS: Final = (
    "fault", "strikes", "jobs", "finished", "queued", "LOST", "double commits", "stale commits", "runs twice",
    "unexplained", "most at once", "over the limit", "over past lease", "90 % again after",
)  # fmt: skip


def row(outcome: Outcome) -> tuple[str, ...]:
    verdict = outcome.verdict
    known = [seconds for seconds in outcome.recoveries_s if seconds is not None]
    recovery = f"{max(known):.1f} s" if known and outcome.scenario.strikes is not None else "-"
    return (
        outcome.scenario.name,
        str(len(outcome.strikes)),
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
        recovery,
    )


def markdown(outcomes: Sequence[Outcome]) -> str:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
    lines += ["| " + " | ".join(row(outcome)) + " |" for outcome in outcomes]
    return "\n".join(lines)


def line(outcome: Outcome) -> str:
    """One run on the terminal."""
    said = ", ".join(f"{value} {name}" for name, value in zip(COLUMNS[1:], row(outcome)[1:], strict=True))
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(outcome.reasons.items())) or "none"
    failed = "".join(f"\n    failed: {count} x {what}" for what, count in outcome.verdict.failed.items())
    broken = "".join(f"\n    BROKEN: {sentence}" for sentence in outcome.broken)
    logs = f"\n    logs: {outcome.folder}" if outcome.folder else ""
    return f"{outcome.scenario.name}: {said}; claimed again: {why}; {outcome.took_s:.0f} s{failed}{broken}{logs}"


def write(page: Path, text: str) -> None:
    """Replaces what stands between the page's markers."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
