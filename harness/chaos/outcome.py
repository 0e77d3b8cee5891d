"""What one chaos run showed, and the promises that it broke."""

from __future__ import annotations

from pathlib import Path

import msgspec
from harness.chaos.fleet.processes import Acknowledged
from harness.chaos.judge.verdict import Verdict

from .scenarios import Scenario


class Strike(msgspec.Struct, frozen=True):
    """One fault that happened."""

    fault: str
    began_ms: int
    over_ms: int
    forgets_from_ms: int | None = None
    """The time from which Redis forgot what it had acknowledged; None: from the beginning of the strike."""


class Outcome(msgspec.Struct):
    """What one run showed."""

    scenario: Scenario
    seed: str
    verdict: Verdict
    strikes: list[Strike]
    reasons: dict[str, int]
    """Why jobs were claimed again."""
    failures: list[str]
    """Processes that ended by themselves or would not end, and a queue that did not drain."""
    recoveries_s: list[float | None]
    took_s: float
    folder: Path | None
    """Where the logs are, if a promise was broken."""

    @property
    def broken(self) -> list[str]:
        """The promises that this run broke, a sentence each."""
        verdict = self.verdict
        found = [*self.failures, *verdict.wrong[:5]]
        if lost := [job for job in verdict.lost if not self._redis_may_forget(job)]:
            found.append(f"{len(lost)} acknowledged jobs are lost, such as {lost[0]}")
        for count, what in (
            (verdict.queued, "jobs are still queued after the draining"),
            (verdict.double_commits, "results were written over another"),
            (verdict.stale_commits, "results were written by runs that did not hold the lease"),
            (verdict.unexplained_runs, "runs have no claim of their own"),
            (verdict.over_limit, "runs were over the host's limit"),
            (0 if self.scenario.rolls_back else verdict.left_behind, "keys were left behind"),
        ):
            if count:
                found.append(f"{count} {what}")
        return found

    def _redis_may_forget(self, job: Acknowledged) -> bool:
        """Whether a job may have been acknowledged while Redis could still forget it."""
        return self.scenario.may_lose and any(
            (strike.forgets_from_ms or strike.began_ms) <= job.at_ms and job.sent_ms <= strike.over_ms
            for strike in self.strikes
        )
