"""The outcome of a chaos run, and the guarantees that it broke."""

from __future__ import annotations

from pathlib import Path

import msgspec
from harness.chaos.fleet.processes import Acknowledged
from harness.chaos.judge.verdict import Verdict

from .scenarios import Scenario


class Injection(msgspec.Struct, frozen=True):
    """One injection of a fault."""

    fault: str
    began_ms: int
    over_ms: int
    forgets_from_ms: int | None = None
    """The time from which acknowledged changes may be lost; None: since the injection began."""


class Outcome(msgspec.Struct):
    """The outcome of one run."""

    scenario: Scenario
    seed: str
    verdict: Verdict
    injections: list[Injection]
    reasons: dict[str, int]
    """Why jobs were claimed again."""
    failures: list[str]
    """Processes that exited by themselves or did not stop, and a queue that did not drain."""
    recoveries_s: list[float | None]
    took_s: float
    folder: Path | None
    """The folder of the logs, if a guarantee was broken."""

    @property
    def broken(self) -> list[str]:
        """The guarantees that this run broke, as sentences."""
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
            (abs(verdict.ended - verdict.counted_ends), "ends of jobs are missing in the figures, or in excess"),
            (verdict.miscounted_enqueues, "enqueues are missing in the figures, or in excess"),
            (0 if self.scenario.rolls_back else verdict.leftover_keys, "keys were left over"),
        ):
            if count:
                found.append(f"{count} {what}")
        return found

    def _redis_may_forget(self, job: Acknowledged) -> bool:
        """Whether a job may have been acknowledged while Redis could still lose it."""
        return self.scenario.may_lose and any(
            (injection.forgets_from_ms or injection.began_ms) <= job.at_ms and job.sent_ms <= injection.over_ms
            for injection in self.injections
        )
