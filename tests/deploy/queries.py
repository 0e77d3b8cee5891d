"""The PromQL of the dashboard and of the alerts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from .manifests import DEPLOY, find

DASHBOARD: Final = DEPLOY / "grafana" / "fetchq.json"
_SERIES: Final = re.compile(r"\b((?:fetchq|process|python)_[a-z_]+|up|ALERTS)\b(?=[^(]|$)")
_LABELS: Final = re.compile(r"\{[^}]*\}|\b(?:by|without|on)\s*\([^)]*\)")


def read_dashboard() -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return dashboard


def panels() -> list[dict[str, Any]]:
    """The panels with queries: without the rows."""
    return [panel for panel in read_dashboard()["panels"] if panel["type"] != "row"]


def alert_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries(queue: str, rate_interval: str) -> Iterator[tuple[str, str]]:
    """Every query with its place, Grafana's variables replaced."""
    dashboard = read_dashboard()
    for panel in panels():
        for target in panel["targets"]:
            yield f"dashboard: {panel['title']} {target['refId']}", _plain(target["expr"], queue, rate_interval)
    for annotation in dashboard["annotations"]["list"]:
        yield f"dashboard: annotation {annotation['name']}", _plain(annotation["expr"], queue, rate_interval)
    for rule in alert_rules():
        yield f"alert: {rule['alert']}", rule["expr"]
    trigger = find("ScaledObject", "fetchq-worker")["spec"]["triggers"][0]
    yield "kubernetes: ScaledObject", trigger["metadata"]["query"].replace("arq:queue", queue)


def _plain(query: str, queue: str, rate_interval: str) -> str:
    plain = query.replace("$__rate_interval", rate_interval).replace("$queue", queue)
    assert "$" not in plain, query
    return plain


def series_in(query: str) -> set[str]:
    """The names of the series that a query reads."""
    return set(_SERIES.findall(_LABELS.sub("", query)))
