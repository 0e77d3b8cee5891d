"""docs/observability.md has every metric, with its type and labels."""

from __future__ import annotations

import re
from pathlib import Path

from fetchq.inspect.families import Family
from fetchq.inspect.queue_metrics import QUEUE_METRICS
from fetchq_worker.process.http.process_metrics import BUILD_INFO, PROCESS_METRICS, supervisor_family

PAGE = Path(__file__).parents[4] / "docs" / "observability.md"


def _table(heading: str) -> list[tuple[str, str, list[str]]]:
    """The name, type and labels of each row that names one metric."""
    text = PAGE.read_text(encoding="utf-8").split(f"<!-- table: {heading} -->\n", 1)[1].split("\n\n", 1)[0]
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in text.splitlines()[2:]]
    assert all(meaning for *_, meaning in rows)
    return [(name.strip("`"), kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels, _ in rows if kind]


def _row(family: Family) -> tuple[str, str, list[str]]:
    return family.name, family.kind, list(family.labels)


def test_the_table_has_each_metric_of_a_queue() -> None:
    assert _table("queue-metrics") == [
        (metric.name, metric.kind, ["queue", *metric.labels]) for metric in QUEUE_METRICS
    ]


def test_the_table_has_each_metric_of_a_worker() -> None:
    own = [(metric.name, metric.kind, list(metric.labels)) for metric in PROCESS_METRICS]
    assert _table("worker-metrics") == [*own, _row(BUILD_INFO), _row(supervisor_family(1, 0))]
