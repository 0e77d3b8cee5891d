"""The metrics of worker processes."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client import parser
from tests.support.metrics.promtool import problems_of

from fetchq import __version__
from fetchq.inspect.exposition import encode
from fetchq.inspect.families import Family, Format
from fetchq_worker.process.http.process_metrics import (
    BUILD_INFO,
    PROCESS_METRICS,
    merged,
    process_families,
    supervisor_family,
)
from fetchq_worker.telemetry.process_measures import ProcessMeasures

MEASURES = ProcessMeasures(
    ready=True,
    running_jobs=3,
    max_jobs=10,
    uncommitted_jobs=1,
    jobs_complete=5,
    jobs_failed=2,
    jobs_retried=1,
    event_loop_lag_s=0.25,
    redis_round_trip_s=0.5,
    connections_idle=4,
    connections_active=2,
)


def _values(families: list[Family]) -> dict[tuple[str, ...], float]:
    text = encode(families, Format.PROMETHEUS).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_each_measure_has_its_metric() -> None:
    values = _values(process_families(MEASURES))

    assert values["fetchq_worker_ready",] == 1
    assert values["fetchq_worker_running_jobs",] == 3
    assert values["fetchq_worker_max_jobs",] == 10
    assert values["fetchq_worker_uncommitted_jobs",] == 1
    assert [values["fetchq_worker_jobs_total", end] for end in ("complete", "failed", "retried")] == [5, 2, 1]
    assert values["fetchq_worker_event_loop_lag_seconds",] == 0.25
    assert values["fetchq_worker_redis_round_trip_seconds",] == 0.5
    assert [values["fetchq_worker_connections", state] for state in ("idle", "active")] == [4, 2]
    assert values["fetchq_build_info", __version__] == 1
    assert values["process_resident_memory_bytes",] > 1 << 20


def test_a_round_trip_that_is_not_known_yet_is_left_out() -> None:
    measures = msgspec.structs.replace(MEASURES, redis_round_trip_s=None)
    assert "fetchq_worker_redis_round_trip_seconds" not in {family.name for family in process_families(measures)}


@pytest.mark.parametrize("several", [False, True])
def test_prometheuss_own_tool_finds_nothing_wrong(several: bool) -> None:
    families = process_families(MEASURES)
    if several:
        families = [supervisor_family(2, 1), *merged({0: families, 1: families})]
    assert problems_of(encode(families, Format.PROMETHEUS)) == ""


def test_the_metrics_of_several_processes_are_told_apart_by_their_number() -> None:
    idle = msgspec.structs.replace(MEASURES, running_jobs=0, redis_round_trip_s=None)

    values = _values(merged({10: process_families(MEASURES), 2: process_families(idle)}))

    assert (values["fetchq_worker_running_jobs", "10"], values["fetchq_worker_running_jobs", "2"]) == (3, 0)
    assert values["fetchq_worker_jobs_total", "complete", "2"] == 5
    assert values["fetchq_worker_redis_round_trip_seconds", "10"] == 0.5
    assert ("fetchq_worker_redis_round_trip_seconds", "2") not in values
    assert values["fetchq_build_info", "10", __version__] == 1


def test_the_names_of_the_own_metrics_differ() -> None:
    names = [metric.name for metric in PROCESS_METRICS] + [BUILD_INFO.name, supervisor_family(1, 0).name]
    assert len(set(names)) == len(names)
    assert all(name.startswith("fetchq_") for name in names)
