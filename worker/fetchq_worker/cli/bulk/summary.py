"""The summary of a run: how many results of each outcome, their durations, and an example of each failure."""

from __future__ import annotations

import math
from typing import Final

from fetchq import FetchResult, FetchStatus
from fetchq.command.streams import printable
from fetchq_worker.cli.terminal.text import latency_text, table_lines

_BUCKETS_PER_DOUBLING: Final = 16
"""The error of a quantile is at most 2.2 %."""
MAX_SHOWN_URL_CHARS: Final = 200
_PERMITTABLE: Final = ("loopback addresses", "private addresses", "shared addresses")
"""How an egress rule ends for which people mean to fetch from their own networks."""


class Latencies:
    """A logarithmic histogram of durations in seconds; its size does not depend on their number."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._count = 0

    def add(self, duration_s: float) -> None:
        bucket = round(math.log2(max(duration_s, 1e-6)) * _BUCKETS_PER_DOUBLING)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self._count += 1

    def quantile(self, share: float) -> float | None:
        """The quantile `share` in s; None without durations."""
        rank = math.ceil(share * self._count)
        for bucket in sorted(self._counts):
            rank -= self._counts[bucket]
            if rank <= 0:
                return float(2 ** (bucket / _BUCKETS_PER_DOUBLING))
        return None


class Outcome:
    """The results of one outcome."""

    def __init__(self) -> None:
        self.count = 0
        self.latencies: Final = Latencies()
        self.example: str | None = None


class Summary:
    """Counts every result, in bounded memory."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.body_bytes = 0
        self._outcomes: dict[FetchStatus, Outcome] = {}

    def add(self, result: FetchResult) -> None:
        self.done += 1
        self.failed += not result.ok
        self.body_bytes += result.body_size
        outcome = self._outcomes.get(result.status)
        if outcome is None:
            outcome = self._outcomes[result.status] = Outcome()
        outcome.count += 1
        if (duration_s := latency_of(result)) is not None:
            outcome.latencies.add(duration_s)
        if outcome.example is None and not result.ok:
            outcome.example = printable(_example_of(result))

    def lines(self) -> list[str]:
        """The outcomes with their counts and durations, as a table."""
        rows = [("outcome", "count", "p50", "p95")]
        for status, outcome in self._by_count():
            p50, p95 = outcome.latencies.quantile(0.5), outcome.latencies.quantile(0.95)
            rows.append((str(status), f"{outcome.count:,}", latency_text(p50), latency_text(p95)))
        return table_lines(rows, right=range(1, 4))

    def examples(self) -> list[str]:
        """The first failure of each outcome, a line each."""
        return [f"{status}: {outcome.example}" for status, outcome in self._by_count() if outcome.example]

    def _by_count(self) -> list[tuple[FetchStatus, Outcome]]:
        return sorted(self._outcomes.items(), key=lambda item: -item[1].count)


def _example_of(result: FetchResult) -> str:
    why = result.error or f"HTTP {result.http_status}"
    if result.status is FetchStatus.BLOCKED and why.endswith(_PERMITTABLE):
        why += "; --allow-net permits a network"
    if why.startswith(repr(result.url)):  # the sentence of an invalid URL names it
        return why
    url = result.url if len(result.url) <= MAX_SHOWN_URL_CHARS else f"{result.url[: MAX_SHOWN_URL_CHARS - 3]}..."
    return f"{url}: {why}"


def latency_of(result: FetchResult) -> float | None:
    """The duration of the last attempt in s; None without attempts."""
    if result.timing.total_s is not None:
        return result.timing.total_s
    return result.attempts[-1].duration_s if result.attempts else None
