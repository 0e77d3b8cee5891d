"""The results of a run: samples for each figure and peer. Written to results.json as they are."""

from __future__ import annotations

import statistics
from typing import Final, Literal

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """One figure: its title, its unit, and which direction is better."""

    title: str
    unit: str
    better: Literal["higher", "lower"] = "higher"
    digits: int = 0


FIGURES: Final[dict[str, Figure]] = {
    "fetch_2k": Figure("fetches, 2 KB bodies", "/s"),
    "fetch_100k": Figure("fetches, 100 KB bodies", "/s"),
    "fetch_1m": Figure("fetches, 1 MB bodies", "/s"),
    "empty": Figure("empty jobs", "/s"),
    "enqueue_one": Figure("enqueue, one at a time", "/s"),
    "enqueue_64": Figure("enqueue, 64 callers of one producer", "/s"),
    "enqueue_many": Figure("enqueue, many", "/s"),
    "idle_pick_up_p50": Figure("pick-up when idle, p50", "ms", "lower", 2),
    "idle_pick_up_p99": Figure("pick-up when idle, p99", "ms", "lower", 2),
    "idle_fetch_p50": Figure("enqueue to result of a 2 KB fetch when idle, p50", "ms", "lower", 2),
    "idle_fetch_p99": Figure("enqueue to result of a 2 KB fetch when idle, p99", "ms", "lower", 2),
    "half_pick_up_p50": Figure("pick-up at half load, p50", "ms", "lower", 2),
    "half_pick_up_p99": Figure("pick-up at half load, p99", "ms", "lower", 2),
    "half_fetch_p50": Figure("enqueue to result of a 2 KB fetch at half load, p50", "ms", "lower", 2),
    "half_fetch_p99": Figure("enqueue to result of a 2 KB fetch at half load, p99", "ms", "lower", 2),
    "recovery": Figure("a killed worker's jobs run again, options at default", "s", "lower", 1),
    "recovery_short": Figure("a killed worker's jobs run again, lease of 2 s", "s", "lower", 1),
    "depth_10k": Figure("empty jobs with 10,000 queued", "/s"),
    "depth_1m": Figure("empty jobs with 1,000,000 queued", "/s"),
    "memory": Figure("Redis memory per queued fetch", "bytes", "lower"),
    "empty_trips": Figure("Redis round trips per empty job", "", "lower", 3),
    "empty_commands": Figure("Redis commands per empty job, those in scripts too", "", "lower", 2),
    "empty_redis_cpu": Figure("Redis CPU per empty job", "us", "lower", 1),
    "fetch_2k_trips": Figure("Redis round trips per 2 KB fetch", "", "lower", 3),
    "fetch_2k_commands": Figure("Redis commands per 2 KB fetch, those in scripts too", "", "lower", 2),
    "fetch_2k_redis_cpu": Figure("Redis CPU per 2 KB fetch", "us", "lower", 1),
    "fetch_100k_redis_cpu": Figure("Redis CPU per fetch of 100 KB", "us", "lower", 1),
    "fetch_1m_redis_cpu": Figure("Redis CPU per fetch of 1 MB", "us", "lower", 0),
    "cpu_queued": Figure("CPU per 2 KB fetch of the process that makes it", "us", "lower", 1),
    "cpu_in_place": Figure("the same without a queue", "us", "lower", 1),
    "fetch_2k_two": Figure("fetches, 2 KB bodies, two worker processes", "/s"),
    "empty_two": Figure("empty jobs, two worker processes", "/s"),
    "sleeping": Figure("jobs that sleep 1 s, 2,000 at a time", "/s"),
    "crawl_embedded": Figure("10,000 URLs to a file, nothing but the process", "s", "lower", 1),
    "crawl_redis": Figure("10,000 URLs to a file, over Redis", "s", "lower", 1),
    "tls_crawl": Figure("1,000 hosts x 10 URLs over TLS to a file", "s", "lower", 1),
    "tls_crawl_connections": Figure("connections a host", "", "lower", 2),
    "import_added": Figure("import fetchq over import redis.asyncio", "ms", "lower", 1),
    "help": Figure("fetchq --help", "s", "lower", 2),
    "peak_10k": Figure("peak memory, 10,000 URLs", "MB", "lower", 1),
    "peak_100k": Figure("peak memory, 100,000 URLs", "MB", "lower", 1),
}
"""Every figure, in the order of the page."""


class Series(msgspec.Struct):
    """One peer's samples of one figure, one a round, or the reason why there are none."""

    samples: list[float] = []
    problem: str = ""
    """Why there are no samples, or no more."""

    @property
    def median(self) -> float | None:
        return statistics.median(self.samples) if self.samples else None


class Machine(msgspec.Struct):
    """The machine."""

    processor: str
    cores: int
    memory_gb: float
    system: str
    python: str
    """The interpreter of fetchq and of the Python peers, and how it was built."""
    load_before: float
    """The one-minute load average before the run: above about 0.3 the machine was not quiet."""


class Results(msgspec.Struct, kw_only=True):
    """All results of a run."""

    taken_at: str
    machine: Machine
    rounds: int
    concurrency: int
    took_s: float = 0.0
    versions: dict[str, dict[str, str]] = {}
    """By peer: package and version."""
    figures: dict[str, dict[str, Series]] = {}
    """By figure, then by peer."""

    def series(self, figure: str, peer: str) -> Series:
        assert figure in FIGURES, figure
        return self.figures.setdefault(figure, {}).setdefault(peer, Series())

    def median(self, figure: str, peer: str) -> float | None:
        series = self.figures.get(figure, {}).get(peer)
        return series.median if series else None


def percentile(values: list[float], percent: float) -> float:
    """By the nearest rank: the smallest value that `percent` of the values do not exceed."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]
