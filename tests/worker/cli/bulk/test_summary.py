"""The summary of a run."""

from __future__ import annotations

import random

from fetchq import FetchResult, FetchStatus, Timing
from fetchq_worker.cli.bulk.summary import Latencies, Summary


def test_quantiles_are_close_to_those_of_the_sorted_list() -> None:
    rng = random.Random(7)
    durations = [rng.lognormvariate(-3, 1.5) for _ in range(20_000)]
    latencies = Latencies()
    for duration_s in durations:
        latencies.add(duration_s)
    durations.sort()
    for share in (0.5, 0.95, 0.99):
        exact = durations[int(share * len(durations)) - 1]
        assert abs((latencies.quantile(share) or 0) / exact - 1) < 0.03


def test_there_is_no_quantile_of_nothing() -> None:
    assert Latencies().quantile(0.5) is None


def test_the_table_counts_outcomes_and_an_example_shows_a_failure() -> None:
    summary = Summary()
    for _ in range(3):
        summary.add(FetchResult(url="http://a/", status=FetchStatus.OK, timing=Timing(total_s=0.2)))
    summary.add(FetchResult(url="http://b/\x1b[31m", status=FetchStatus.TIMEOUT, error="[bold]no answer in 2 s"))
    assert summary.lines() == [
        "outcome  count     p50     p95",
        "OK           3  201 ms  201 ms",
        "TIMEOUT      1",
    ]
    assert (summary.done, summary.failed) == (4, 1)
    assert summary.examples() == ["TIMEOUT: http://b/\ufffd[31m: [bold]no answer in 2 s"]


def test_the_example_of_a_blocked_network_names_the_option_that_permits_it() -> None:
    summary = Summary()
    error = "the egress policy forbids loopback addresses"
    summary.add(FetchResult(url="http://localhost/", status=FetchStatus.BLOCKED, error=error))
    assert summary.examples() == [f"BLOCKED: http://localhost/: {error}; --allow-net permits a network"]
