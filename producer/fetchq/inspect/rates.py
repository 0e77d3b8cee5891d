"""How fast a queue works: what was counted in the last minutes, by the second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from .figures import Minute, combined, quantile

PERIODS: Final = (1, 5, 60)
"""In minutes."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Averages over the last whole minutes."""

    minutes: int
    enqueued_per_s: float
    finished_per_s: float
    """Jobs that ended, whatever their outcome."""
    failed_per_s: float
    """Jobs that ended in failure; cancelled ones do not count."""
    attempts_per_s: float
    body_bytes_per_s: float
    attempt_p50_s: float | None
    """Half of the attempts took no longer; None for no attempts. An estimate, as of every histogram."""
    attempt_p95_s: float | None


def rates_of(minutes: Sequence[Minute], period: int) -> Rates:
    """The averages over the last `period` of `minutes`, which are whole."""
    counts = combined(minutes[-period:])
    seconds = 60 * period
    return Rates(
        minutes=period,
        enqueued_per_s=counts.enqueued / seconds,
        finished_per_s=counts.finished / seconds,
        failed_per_s=counts.failed / seconds,
        attempts_per_s=sum(counts.attempts.values()) / seconds,
        body_bytes_per_s=counts.body_bytes / seconds,
        attempt_p50_s=quantile(counts.attempt_duration, 0.5),
        attempt_p95_s=quantile(counts.attempt_duration, 0.95),
    )
