"""What a worker measures of its jobs and attempts, until a heartbeat adds it to the figures of the queue.

Every measurement is a few additions: memory is bounded, however long Redis is away.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, Protocol

from fetchq import FetchResult
from fetchq.store.commands.workers import Report
from fetchq.telemetry.figures import (
    ATTEMPT,
    ATTEMPT_BOUNDS_S,
    ATTEMPT_DURATION,
    BODY_BYTES,
    LEASES_LOST,
    PHASE,
    PHASE_BOUNDS_S,
    RESPONSE,
    WAIT,
    HistogramSpec,
)

LANE_NAMES: Final = {"h": "high", "": "default", "l": "low"}
_CODE_CLASSES: Final = 10
"""By the first digit of a code. Servers send others than 1 to 5, too."""


class Phases(Protocol):
    """How long each phase of an attempt took, in seconds; None: it did not take place."""

    dns_s: float | None
    connect_s: float | None
    tls_s: float | None
    first_byte_s: float | None


class Histogram:
    """Counts by bucket, and the sum of what was observed."""

    __slots__ = ("buckets", "spec", "sum_s")

    def __init__(self, spec: HistogramSpec) -> None:
        self.spec: Final = spec
        self.buckets = [0] * (len(spec.bounds_s) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        self.buckets[bisect_left(self.spec.bounds_s, seconds)] += count
        self.sum_s += seconds * count

    def take(self) -> Iterator[str | int]:
        """Field, number, field, ...; then it is empty. Less than a microsecond stays in the sum."""
        for place, count in enumerate(self.buckets):
            if count:
                yield f"{self.spec.field}{place}"
                yield count
                self.buckets[place] = 0
        whole_us = int(self.sum_s * 1e6)
        if whole_us:
            yield f"{self.spec.field}sum"
            yield whole_us
            self.sum_s -= whole_us / 1e6


class Measures:
    """What one worker has measured and not reported yet."""

    __slots__ = (
        "_attempts",
        "_body_bytes",
        "_connect",
        "_dns",
        "_durations",
        "_first_bytes",
        "_responses",
        "_tls",
        "leases_lost",
        "waits",
    )

    def __init__(self) -> None:
        self.leases_lost = 0
        self.waits: Final = {lane: Histogram(WAIT[name]) for lane, name in LANE_NAMES.items()}
        self._attempts: dict[str, int] = {}
        self._responses = [0] * _CODE_CLASSES
        self._body_bytes = 0
        self._durations = Histogram(ATTEMPT_DURATION)
        self._dns, self._connect, self._tls, self._first_bytes = (Histogram(spec) for spec in PHASE.values())

    def attempt_ended(self, result: FetchResult, phases: Phases) -> None:
        """Measures the last attempt of `result`."""
        # Inline, since it is called for each fetch.
        attempt = result.attempts[-1]
        status, duration_s = attempt.status, attempt.duration_s
        self._attempts[status] = self._attempts.get(status, 0) + 1
        durations = self._durations
        durations.buckets[bisect_left(ATTEMPT_BOUNDS_S, duration_s)] += 1
        durations.sum_s += duration_s
        code = result.http_status
        if code is not None and not result.from_cache:
            self._responses[code // 100] += 1
            self._body_bytes += result.body_size
        if result.redirects:
            for redirect in result.redirects:
                self._responses[redirect.http_status // 100] += 1
        first_byte_s = phases.first_byte_s
        if first_byte_s is not None:
            first_bytes = self._first_bytes
            first_bytes.buckets[bisect_left(PHASE_BOUNDS_S, first_byte_s)] += 1
            first_bytes.sum_s += first_byte_s
        if phases.connect_s is not None or phases.dns_s is not None:
            self._connected(phases)

    def _connected(self, phases: Phases) -> None:
        for histogram, seconds in (
            (self._dns, phases.dns_s),
            (self._connect, phases.connect_s),
            (self._tls, phases.tls_s),
        ):
            if seconds is not None:
                histogram.add(seconds)

    def take(self) -> list[str | int]:
        """All of it, flat: field, what is added to it, field, ...; then nothing is measured."""
        figures: list[str | int] = []
        for status, count in self._attempts.items():
            figures += (ATTEMPT + status, count)
        self._attempts.clear()
        for place, count in enumerate(self._responses):
            if count and 1 <= place <= 5:
                figures += (f"{RESPONSE}{place}xx", count)
        self._responses = [0] * _CODE_CLASSES
        for field, number in ((BODY_BYTES, self._body_bytes), (LEASES_LOST, self.leases_lost)):
            if number:
                figures += (field, number)
        self._body_bytes = self.leases_lost = 0
        for histogram in (
            self._durations,
            self._dns,
            self._connect,
            self._tls,
            self._first_bytes,
            *self.waits.values(),
        ):
            figures.extend(histogram.take())
        return figures


class Reports:
    """Numbers the reports of a worker. One that Redis has not acknowledged is sent again, unchanged."""

    __slots__ = ("_measures", "_number", "_unacknowledged")

    def __init__(self, measures: Measures) -> None:
        self._measures: Final = measures
        self._number = 0
        self._unacknowledged: Report | None = None

    def next(self) -> Report | None:
        """The report to be sent; None: nothing was measured."""
        if self._unacknowledged is None and (figures := self._measures.take()):
            self._number += 1
            self._unacknowledged = Report(self._number, figures)
        return self._unacknowledged

    def acknowledge(self) -> None:
        """Redis has counted the last report."""
        self._unacknowledged = None
