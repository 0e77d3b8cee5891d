"""`/metrics` of a worker process: what it measures of itself; and of several, as their supervisor shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from fetchq import __version__
from fetchq.inspect.families import Family, Kind, Sample
from fetchq_worker.telemetry.process_measures import ProcessMeasures


class ProcessMetric(NamedTuple):
    """One metric of a worker process."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    """One sentence."""
    read: Callable[[ProcessMeasures], Mapping[tuple[str, ...], float | None]]
    """The value by those of the labels; None: not known yet."""


def process_families(measures: ProcessMeasures) -> list[Family]:
    """All metrics of this process."""
    from fetchq.inspect.python_metrics import python_families  # noqa: PLC0415 - takes 50 ms to import, and few workers need it

    return [*_worker_families(measures), *python_families(), BUILD_INFO]


def merged(families_by_number: Mapping[int, Iterable[Family]]) -> list[Family]:
    """The metrics of several processes as one, with the number of each as the label `process`."""
    found: dict[str, Family] = {}
    for number, families in sorted(families_by_number.items()):
        for family in families:
            samples = tuple(Sample((f"{number}", *sample.labels), sample.value) for sample in family.samples)
            before = found[family.name].samples if family.name in found else ()
            found[family.name] = Family(
                family.name, family.kind, family.meaning, ("process", *family.labels), (*before, *samples)
            )
    return list(found.values())


def supervisor_family(running: int, missing: int) -> Family:
    """The processes that answered a scrape, and those that did not or are not running."""
    meaning = "Worker processes of this supervisor: those that answered, and those that did not or are being restarted."
    samples = (Sample(("running",), running), Sample(("missing",), missing))
    return Family("fetchq_worker_processes", Kind.GAUGE, meaning, ("state",), samples)


def _worker_families(measures: ProcessMeasures) -> Iterator[Family]:
    for metric in PROCESS_METRICS:
        values = metric.read(measures).items()
        samples = tuple(Sample(labels, value) for labels, value in values if value is not None)
        if samples:
            yield Family(metric.name, metric.kind, metric.meaning, metric.labels, samples)


PROCESS_METRICS: Final = (
    ProcessMetric(
        "fetchq_worker_running_jobs",
        Kind.GAUGE,
        (),
        "Jobs that the process runs.",
        lambda measures: {(): measures.running_jobs},
    ),
    ProcessMetric(
        "fetchq_worker_max_jobs",
        Kind.GAUGE,
        (),
        "Slots of the process.",
        lambda measures: {(): measures.max_jobs},
    ),
    ProcessMetric(
        "fetchq_worker_ready",
        Kind.GAUGE,
        (),
        "Whether the process takes jobs, as /readyz says.",
        lambda measures: {(): int(measures.ready)},
    ),
    ProcessMetric(
        "fetchq_worker_jobs_total",
        Kind.COUNTER,
        ("end",),
        "Runs of jobs in this process, by how they ended: complete, failed, retried.",
        lambda measures: {
            ("complete",): measures.jobs_complete,
            ("failed",): measures.jobs_failed,
            ("retried",): measures.jobs_retried,
        },
    ),
    ProcessMetric(
        "fetchq_worker_event_loop_lag_seconds",
        Kind.GAUGE,
        (),
        "How late the event loop called a timer, at most, in the last 15 s.",
        lambda measures: {(): measures.event_loop_lag_s},
    ),
    ProcessMetric(
        "fetchq_worker_redis_round_trip_seconds",
        Kind.GAUGE,
        (),
        "Round trip of the last heartbeat that Redis answered.",
        lambda measures: {(): measures.redis_round_trip_s},
    ),
    ProcessMetric(
        "fetchq_worker_uncommitted_jobs",
        Kind.GAUGE,
        (),
        "Finished jobs whose outcome is not in Redis yet.",
        lambda measures: {(): measures.uncommitted_jobs},
    ),
    ProcessMetric(
        "fetchq_worker_connections",
        Kind.GAUGE,
        ("state",),
        "Connections of the HTTP client: idle, active.",
        lambda measures: {("idle",): measures.connections_idle, ("active",): measures.connections_active},
    ),
)
"""In the order in which they are written."""

BUILD_INFO: Final = Family(
    "fetchq_build_info", Kind.GAUGE, "The version of fetchq.", ("version",), (Sample((__version__,), 1),)
)
