"""The load of a soak run, and its outcome."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from .memory import Memory

MAX_GROWTH: Final = 0.10


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The load of a soak run."""

    jobs: int
    """After the warm-up."""
    warm_up: int
    fetch_share: float = 0.02
    result_ttl_s: float = 2.0
    max_queued: int = 5000
    workers: int = 2
    concurrency: int = 100
    rest_s: float = 7.0
    """Long enough for one round of maintenance by the workers, and for Redis to shrink unused tables and buffers."""


class Progress(msgspec.Struct):
    """The progress of a soak run."""

    enqueued: int = 0
    fetches: int = 0


class Pace(msgspec.Struct, frozen=True):
    """The throughput after the warm-up, from the first enqueued job to an empty queue."""

    jobs: int
    took_s: float
    cpu_s: dict[str, float]
    """The CPU time of each process meanwhile."""

    @property
    def jobs_s(self) -> float:
        return self.jobs / self.took_s

    @property
    def us_a_job(self) -> str:
        """The CPU time of all workers together."""
        spent_s: dict[str, float] = {}
        for name, spent in self.cpu_s.items():
            who = "workers together" if name.startswith("worker ") else name
            spent_s[who] = spent_s.get(who, 0.0) + spent
        return ", ".join(f"{name} {1e6 * spent / self.jobs:.0f} µs" for name, spent in spent_s.items())


class Outcome(msgspec.Struct, kw_only=True):
    """The outcome of one soak run."""

    enqueued: int
    finished: int
    """Jobs that ended without a failure, by the workers' own counts; a job that ran twice counts twice."""
    fetches: int
    fetched: int
    warm: Memory
    end: Memory
    peak: Memory
    leftovers: Counter[str]
    """Remaining keys by prefix."""
    failures: list[str]
    took_s: float
    pace: Pace

    @property
    def broken(self) -> list[str]:
        """Problems, a sentence each."""
        found = list(self.failures)
        if self.finished < self.enqueued:
            found.append(f"{self.enqueued} jobs were enqueued, and {self.finished} were finished")
        if self.fetched != self.fetches:
            found.append(f"{self.fetches} fetches were enqueued, and {self.fetched} requests came")
        found += [f"{count} keys are left under {prefix}" for prefix, count in sorted(self.leftovers.items())]
        for name, growth in self.warm.growth_to(self.end).items():
            if growth > MAX_GROWTH:
                found.append(f"the memory of {name} grew by {growth:.1%}")
        return found
