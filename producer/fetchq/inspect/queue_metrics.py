"""The metrics of a queue: which there are, and how each is read from the queue's figures.

Labels are never a host, a URL, a job id, a tag or a worker, so a queue has at most 150 series, and three for each of at
most 51 coroutines of its users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from .families import Family, Kind, Sample
from .figures import Histogram, QueueFigures

_Values = Iterable[tuple[tuple[str, ...], float | Histogram]]


class QueueMetric(NamedTuple):
    """One metric of a queue."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    """Besides `queue`, which is the first of each."""
    meaning: str
    """One sentence."""
    read: Callable[[QueueFigures], _Values]
    """The values of the labels, and the value, of each series."""


def queue_families(figures: QueueFigures) -> list[Family]:
    """All metrics of a queue."""
    queue = figures.state.queue
    return [
        Family(
            metric.name,
            metric.kind,
            metric.meaning,
            ("queue", *metric.labels),
            tuple(Sample((queue, *labels), value) for labels, value in metric.read(figures)),
        )
        for metric in QUEUE_METRICS
    ]


def _one(value: float | Histogram) -> _Values:
    return [((), value)]


def _known(value: float | None) -> _Values:
    return [] if value is None else _one(value)


def _each(values: Mapping[Any, float] | Mapping[Any, Histogram]) -> _Values:
    return [((label,), value) for label, value in values.items()]


def _jobs(figures: QueueFigures) -> _Values:
    return _each({state: getattr(figures.state, state) for state in ("due", "waiting", "deferred", "running")})


def _hosts(figures: QueueFigures) -> _Values:
    return _each({state: getattr(figures.state, f"hosts_{state}") for state in ("waiting", "cooling", "paused")})


def _functions(figures: QueueFigures) -> _Values:
    for function, ends in figures.totals.functions.items():
        for end, count in ends.items():
            yield (function, end), count


QUEUE_METRICS: Final = (
    QueueMetric(
        "fetchq_jobs",
        Kind.GAUGE,
        ("state",),
        "Jobs by state: due, waiting for their host, deferred, running.",
        _jobs,
    ),
    QueueMetric(
        "fetchq_demand",
        Kind.GAUGE,
        (),
        "Jobs that could run now with any number of workers, those that run included.",
        lambda figures: _one(figures.state.demand),
    ),
    QueueMetric(
        "fetchq_oldest_due_seconds",
        Kind.GAUGE,
        (),
        "For how long a worker could have run the job that has been due longest; 0 if none is due.",
        lambda figures: _one(figures.state.oldest_due_s or 0),
    ),
    QueueMetric(
        "fetchq_dead_letters",
        Kind.GAUGE,
        (),
        "Jobs that failed for good and are kept as dead letters.",
        lambda figures: _one(figures.state.dead_letters),
    ),
    QueueMetric(
        "fetchq_hosts",
        Kind.GAUGE,
        ("state",),
        "Hosts with waiting jobs, hosts in a cooldown, and names of hosts that are paused.",
        _hosts,
    ),
    QueueMetric(
        "fetchq_workers",
        Kind.GAUGE,
        (),
        "Live worker processes.",
        lambda figures: _one(len(figures.state.workers)),
    ),
    QueueMetric(
        "fetchq_worker_slots",
        Kind.GAUGE,
        (),
        "Slots of all live workers.",
        lambda figures: _one(figures.state.slots),
    ),
    QueueMetric(
        "fetchq_paused",
        Kind.GAUGE,
        (),
        "Whether the whole queue is paused.",
        lambda figures: _one(int(figures.state.paused)),
    ),
    QueueMetric(
        "fetchq_redis_memory_bytes",
        Kind.GAUGE,
        (),
        "Memory that the Redis of the queue uses.",
        lambda figures: _known(figures.state.redis_memory_bytes),
    ),
    QueueMetric(
        "fetchq_redis_max_memory_bytes",
        Kind.GAUGE,
        (),
        "The maxmemory at which the Redis of the queue refuses jobs; 0 without a limit.",
        lambda figures: _known(figures.state.redis_max_memory_bytes),
    ),
    QueueMetric(
        "fetchq_enqueued_total",
        Kind.COUNTER,
        (),
        "Jobs that were put on the queue.",
        lambda figures: _one(figures.totals.enqueued),
    ),
    QueueMetric(
        "fetchq_dead_letters_retried_total",
        Kind.COUNTER,
        (),
        "Dead letters whose jobs were put back on the queue.",
        lambda figures: _one(figures.totals.dead_letters_retried),
    ),
    QueueMetric(
        "fetchq_fetches_total",
        Kind.COUNTER,
        ("status",),
        "Fetches that ended, by outcome.",
        lambda figures: _each(figures.totals.fetches),
    ),
    QueueMetric(
        "fetchq_jobs_finished_total",
        Kind.COUNTER,
        ("function", "end"),
        "Jobs of users' own coroutines that ended: ok, failed, cancelled.",
        _functions,
    ),
    QueueMetric(
        "fetchq_attempts_total",
        Kind.COUNTER,
        ("status",),
        "Attempts of fetches, by outcome.",
        lambda figures: _each(figures.totals.attempts),
    ),
    QueueMetric(
        "fetchq_responses_total",
        Kind.COUNTER,
        ("code",),
        "Responses that were received, by class of their status code.",
        lambda figures: _each(figures.totals.responses),
    ),
    QueueMetric(
        "fetchq_body_bytes_total",
        Kind.COUNTER,
        (),
        "Decoded bytes of response bodies.",
        lambda figures: _one(figures.totals.body_bytes),
    ),
    QueueMetric(
        "fetchq_leases_lost_total",
        Kind.COUNTER,
        (),
        "Runs of jobs that another worker took over.",
        lambda figures: _one(figures.totals.leases_lost),
    ),
    QueueMetric(
        "fetchq_attempt_duration_seconds",
        Kind.HISTOGRAM,
        (),
        "Duration of an attempt of a fetch.",
        lambda figures: _one(figures.totals.attempt_duration),
    ),
    QueueMetric(
        "fetchq_wait_seconds",
        Kind.HISTOGRAM,
        ("lane",),
        "From the time at which a job is due to the begin of its run, by lane.",
        lambda figures: _each(figures.totals.wait),
    ),
    QueueMetric(
        "fetchq_phase_seconds",
        Kind.HISTOGRAM,
        ("phase",),
        "Duration of the parts of an attempt that took place: dns, connect, tls, first_byte.",
        lambda figures: _each(figures.totals.phases),
    ),
)
"""In the order in which they are written."""
