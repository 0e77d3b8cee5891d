"""Metrics with their values, and the formats in which they are written."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from .figures import Histogram


class Format(StrEnum):
    """A text format of metrics."""

    PROMETHEUS = "prometheus"
    OPENMETRICS = "openmetrics"


class Kind(StrEnum):
    """The type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One series of a metric."""

    labels: tuple[str, ...]
    """The values of the labels that the family names."""
    value: float | Histogram


class Family(msgspec.Struct, frozen=True):
    """A metric with its series. It can be sent as JSON."""

    name: str
    kind: Kind
    meaning: str
    """One sentence, the metric's HELP."""
    labels: tuple[str, ...]
    """The names of the labels."""
    samples: tuple[Sample, ...]
