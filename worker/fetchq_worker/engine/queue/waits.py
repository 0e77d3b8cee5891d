"""Measures how long jobs have waited, from the time at which they were due to the begin of their runs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Final

from fetchq.telemetry.figures import WAIT_BOUNDS_S
from fetchq_worker.telemetry.measures import Measures

from .lease import Lease

_BOUNDS_MS: Final = (float("-inf"), *(1000 * bound_s for bound_s in WAIT_BOUNDS_S), float("inf"))


class Waits:
    """Adds the waits of one worker's jobs to its measures."""

    def __init__(self, measures: Measures, note_due: Callable[[Lease], None]) -> None:
        """`note_due` finds out when a job that was parked was due."""
        self._histograms: Final = measures.waits
        self._note_due: Final = note_due

    def add_same(self, lease: Lease, now_ms: float, count: int) -> None:
        """Adds `count` jobs that were due at the same time, in the same lane, and were not parked."""
        self._histograms[lease.lane].add(max(0.0, now_ms - lease.score) / 1000, count)

    def add(self, leases: Iterable[Lease], now_ms: float) -> None:
        """Adds jobs whose runs begin now; not those that are cancelled before, or whose limit is not known yet."""
        lane, place, low, high = "", 0, 0.0, 0.0
        count, sum_ms = 0, 0.0
        for lease in leases:
            if lease.was_parked:
                self._note_due(lease)
                wait_ms = now_ms - lease.due_ms
            else:
                wait_ms = now_ms - lease.score
            if lease.cancel_reason is not None or lease.needs_limit_lookup:
                continue
            if lease.lane != lane or not low < wait_ms <= high:  # most jobs of a claim are in one bucket
                self._save(lane, place, count, sum_ms)
                lane, count, sum_ms = lease.lane, 0, 0.0
                place = bisect_left(_BOUNDS_MS, wait_ms) - 1
                low, high = _BOUNDS_MS[place], _BOUNDS_MS[place + 1]
            count += 1
            sum_ms += wait_ms
        self._save(lane, place, count, sum_ms)

    def _save(self, lane: str, place: int, count: int, sum_ms: float) -> None:
        if count:
            histogram = self._histograms[lane]
            histogram.buckets[place] += count
            histogram.sum_s += max(0.0, sum_ms) / 1000
