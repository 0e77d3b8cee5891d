"""What prometheus-client tells of any Python process: `process_*` and `python_info`."""

from __future__ import annotations

from typing import Final

from prometheus_client import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from .families import Family, Kind, Sample

_COLLECTORS: Final = (ProcessCollector(registry=None), PlatformCollector(registry=None))


def python_families() -> list[Family]:
    """The metrics of this process; without `process_*` on systems without /proc."""
    return [_family(metric) for collector in _COLLECTORS for metric in collector.collect()]


def _family(metric: Metric) -> Family:
    kind = Kind(metric.type)
    labels = tuple(metric.samples[0].labels)
    samples = tuple(Sample(tuple(sample.labels.values()), sample.value) for sample in metric.samples)
    return Family(
        f"{metric.name}_total" if kind is Kind.COUNTER else metric.name, kind, metric.documentation, labels, samples
    )
