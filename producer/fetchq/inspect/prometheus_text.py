"""Writes metrics by prometheus-client, without its registries, whose state is global."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition
from prometheus_client.registry import Collector

from .families import Family, Format, Kind
from .figures import Histogram


def generate(families: Iterable[Family], chosen: Format) -> bytes:
    """The text of these metrics."""
    collector = _Collector(families)
    if chosen is Format.PROMETHEUS:
        return generate_latest(collector)
    write: Any = exposition.generate_latest  # it has no annotations
    text: bytes = write(collector)
    return text


class _Collector(Collector):
    def __init__(self, families: Iterable[Family]) -> None:
        self._families: Final = families

    def collect(self) -> Iterator[Metric]:
        return map(_metric, self._families)


def _metric(family: Family) -> Metric:
    if family.kind is Kind.HISTOGRAM:
        histograms = HistogramMetricFamily(family.name, family.meaning, labels=family.labels)
        for sample in family.samples:
            if isinstance(sample.value, Histogram):
                histograms.add_metric(sample.labels, _buckets(sample.value), sample.value.sum_s)
        return histograms
    make = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    numbers = make(family.name, family.meaning, labels=family.labels)
    for sample in family.samples:
        if not isinstance(sample.value, Histogram):
            numbers.add_metric(sample.labels, sample.value)
    return numbers


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative, as the formats have them."""
    below, buckets = 0, []
    for bound, count in zip((*map(str, histogram.bounds_s), "+Inf"), histogram.counts, strict=True):
        below += count
        buckets.append((bound, float(below)))
    return buckets
