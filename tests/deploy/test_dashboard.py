"""deploy/grafana: a dashboard that can be imported, and whose queries are PromQL."""

from __future__ import annotations

import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.redis_server import needed_binary

from fetchq.inspect.families import Kind
from fetchq.inspect.queue_metrics import QUEUE_METRICS

from .queries import panels, queries, read_dashboard, series_in

COLUMNS = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
OF_QUEUE = {metric.name: metric.kind for metric in QUEUE_METRICS}


def _values_of(key: str, value: Any) -> list[Any]:
    """All values of a key, however deep."""
    if isinstance(value, dict):
        return ([value[key]] if key in value else []) + [
            one for inner in value.values() for one in _values_of(key, inner)
        ]
    return [one for inner in value for one in _values_of(key, inner)] if isinstance(value, list) else []


def test_it_has_what_grafana_needs_to_import_it() -> None:
    dashboard = read_dashboard()
    assert (dashboard["uid"], dashboard["title"]) == ("fetchq", "fetchq")
    assert dashboard["schemaVersion"] >= 36, "from here on a datasource is an object"
    assert "id" not in dashboard, "of one Grafana alone"
    assert "__inputs" not in dashboard
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_it_names_no_datasource_of_its_own() -> None:
    dashboard = read_dashboard()
    assert all(source == SOURCE for source in _values_of("datasource", dashboard))
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables.keys() == {"datasource", "queue"}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert variables["queue"]["multi"] is variables["queue"]["includeAll"] is True


def test_panels_fill_the_grid_without_overlap() -> None:
    places = [panel["gridPos"] for panel in read_dashboard()["panels"]]
    assert all(place["x"] + place["w"] <= COLUMNS for place in places)
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, (a, b)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_a_panel_has_a_unit_a_name_for_each_line_and_queries_of_the_chosen_queues(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references) > 0
    for target in panel["targets"]:
        assert target["legendFormat"]
        of_queue = {
            name for name in series_in(target["expr"]) if not name.startswith(("fetchq_worker_", "process_", "up"))
        }
        assert not of_queue or 'queue=~"$queue"' in target["expr"]


def test_every_query_is_promql(tmp_path: Path) -> None:
    promtool = needed_binary("promtool")
    rules = [{"record": f"checked:{number}", "expr": expr} for number, (_, expr) in enumerate(queries("q", "1m"))]
    assert len(rules) > 50
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}), encoding="utf-8")
    checked = subprocess.run(
        [promtool, "check", "rules", file], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def _is_of_a_queue(series: str) -> bool:
    return series in ("fetchq_workers", "fetchq_worker_slots") or not series.startswith(
        ("fetchq_worker_", "process_", "up", "ALERTS")
    )


def test_every_metric_of_a_queue_is_shown() -> None:
    shown = {name.removesuffix("_bucket") for _, query in queries("q", "1m") for name in series_in(query)}
    assert {name for name in shown if _is_of_a_queue(name)} == OF_QUEUE.keys()


def test_rates_are_taken_of_counters_and_nothing_else() -> None:
    for place, query in queries("q", "1m"):
        for function, name in re.findall(r"\b(rate|increase|deriv|delta)\((\w+?)(?:_bucket)?\b[{[]", query):
            if _is_of_a_queue(name):
                assert (OF_QUEUE[name] is Kind.GAUGE) == (function in ("deriv", "delta")), place
