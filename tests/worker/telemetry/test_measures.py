"""What a worker measures, until it reports it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchq import Attempt, FetchResult, FetchStatus, Redirect
from fetchq.telemetry.figures import ATTEMPT_DURATION, PHASE, WAIT
from fetchq_worker.engine.queue.lease import CancelReason, Lease
from fetchq_worker.engine.queue.waits import Waits
from fetchq_worker.fetch.http.phases import Phases
from fetchq_worker.telemetry.measures import Histogram, Measures, Reports


def figures_of(flat: Sequence[str | int]) -> dict[str, int]:
    names, numbers = flat[::2], flat[1::2]
    assert len(set(names)) == len(names)
    return {str(name): int(number) for name, number in zip(names, numbers, strict=True)}


def _attempt(measures: Measures, *, duration_s: float = 0.02, phases: Phases | None = None, **result: object) -> None:
    status = result.pop("status", FetchStatus.OK)
    attempt = Attempt(started_at=datetime.now(UTC), status=status, duration_s=duration_s)  # type: ignore[arg-type]
    fields = {"url": "http://a.example/", "status": status, "attempts": (attempt,), **result}
    measures.attempt_ended(FetchResult(**fields), phases or Phases())  # type: ignore[arg-type]


def test_attempts_are_counted_by_status_and_responses_by_the_class_of_their_code() -> None:
    measures = Measures()
    _attempt(measures, http_status=200, body_size=1000)
    _attempt(measures, http_status=503, status=FetchStatus.HTTP_ERROR, body_size=24)
    _attempt(measures, http_status=204, redirects=(Redirect(url="http://a.example/", http_status=301),))
    _attempt(measures, status=FetchStatus.DNS_ERROR)
    figures = figures_of(measures.take())
    assert {name: figures[name] for name in figures if name.startswith(("attempt:", "response:", "body"))} == {
        "attempt:OK": 2,
        "attempt:HTTP_ERROR": 1,
        "attempt:DNS_ERROR": 1,
        "response:2xx": 2,
        "response:3xx": 1,
        "response:5xx": 1,
        "body_bytes": 1024,
    }
    assert measures.take() == []


def test_what_the_http_cache_answers_is_an_attempt_without_a_response() -> None:
    measures = Measures()
    _attempt(measures, http_status=200, body_size=1000, from_cache=True)
    assert figures_of(measures.take()).keys() == {"attempt:OK", "duration:2", "duration:sum"}


def test_only_phases_that_took_place_are_measured() -> None:
    measures, phases = Measures(), Phases()
    phases.first_byte_s = 0.02
    _attempt(measures, http_status=200, phases=phases)
    pooled = figures_of(measures.take())
    assert {name for name in pooled if name.startswith("phase:")} == {"phase:first_byte:1", "phase:first_byte:sum"}
    phases.dns_s, phases.connect_s, phases.tls_s = 0.001, 0.2, 0.3
    _attempt(measures, http_status=200, phases=phases)
    connected = figures_of(measures.take())
    assert {name: connected[name] for name in connected if name.startswith("phase:") and ":first" not in name} == {
        "phase:dns:0": 1,
        "phase:dns:sum": 1000,
        "phase:connect:2": 1,
        "phase:connect:sum": 200_000,
        "phase:tls:3": 1,
        "phase:tls:sum": 300_000,
    }


@given(st.lists(st.floats(0, 400), max_size=30), st.integers(0, 29))
def test_a_histogram_counts_each_observation_in_its_bucket_once_however_often_it_is_taken(
    seconds: list[float], taken_after: int
) -> None:
    histogram, taken = Histogram(ATTEMPT_DURATION), Counter[str]()
    for place, observed in enumerate(seconds):
        histogram.add(observed)
        if place == taken_after:
            taken.update(figures_of(list(histogram.take())))
    taken.update(figures_of(list(histogram.take())))
    total_us = taken.pop("duration:sum", 0)
    assert taken == Counter(f"duration:{ATTEMPT_DURATION.bucket(observed)}" for observed in seconds)
    assert total_us == pytest.approx(sum(seconds) * 1e6, abs=len(seconds) + 1)


_LEASES = st.lists(
    st.tuples(st.integers(0, 10_000_000), st.sampled_from(["h", "", "l"]), st.booleans()), min_size=1, max_size=40
)


@given(_LEASES)
def test_waits_are_counted_by_lane_except_those_of_jobs_that_are_cancelled(
    jobs: list[tuple[int, str, bool]],
) -> None:
    now_ms, names = 10_000_000, {"h": "high", "": "default", "l": "low"}
    leases, expected = [], Counter[str]()
    for due_ms, lane, cancelled in jobs:
        lease = Lease(b"a", "w.1", b"", due_ms, 1, False, lane)
        if cancelled:
            lease.cancel(CancelReason.ABORT)
        else:
            spec = WAIT[names[lane]]
            expected[f"{spec.field}{spec.bucket((now_ms - due_ms) / 1000)}"] += 1
        leases.append(lease)
    measures = Measures()
    Waits(measures, lambda lease: None).add(leases, now_ms)
    taken = {name: count for name, count in figures_of(measures.take()).items() if not name.endswith("sum")}
    assert taken == dict(expected)


def test_jobs_of_one_claim_that_were_due_at_once_are_counted_together() -> None:
    measures = Measures()
    Waits(measures, lambda lease: None).add_same(Lease(b"a", "w.1", b"", 1000, 1, False, "l"), 3000.0, 64)
    assert figures_of(measures.take()) == {"wait:low:2": 64, "wait:low:sum": 128_000_000}


def test_a_job_that_is_due_by_a_clock_that_is_ahead_has_waited_for_no_time() -> None:
    measures = Measures()
    waits = Waits(measures, lambda lease: None)
    waits.add_same(Lease(b"a", "w.1", b"", 1005, 1), 1000.0, 2)
    waits.add([Lease(b"a", "w.1", b"", 1005, 1)], 1000.0)
    assert figures_of(measures.take()) == {"wait:default:0": 3}


def test_a_report_is_repeated_unchanged_until_it_is_acknowledged() -> None:
    measures = Measures()
    reports = Reports(measures)
    assert reports.next() is None, "nothing was measured"
    measures.leases_lost += 1
    first = reports.next()
    measures.leases_lost += 2
    assert reports.next() is first is not None
    assert (first.number, list(first.figures)) == (1, ["leases_lost", 1])
    reports.acknowledge()
    second = reports.next()
    assert second is not None
    assert (second.number, list(second.figures)) == (2, ["leases_lost", 2])
    reports.acknowledge()
    assert reports.next() is None


def test_what_is_measured_during_an_outage_has_bounds() -> None:
    measures = Measures()
    for number in range(100_000):
        measures.waits["h"].add(number / 10)
    for status in FetchStatus:
        _attempt(measures, status=status, http_status=599)
    specs = [ATTEMPT_DURATION, *WAIT.values(), *PHASE.values()]
    most = sum(len(spec.fields()) for spec in specs) + len(FetchStatus) + 5 + 2
    assert len(measures.take()) / 2 <= most < 120
