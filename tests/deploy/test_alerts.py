"""deploy/prometheus: promtool accepts the configuration and the rules, and each alert fires on its fault alone."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.redis_server import needed_binary

from .manifests import DEPLOY

PROMETHEUS = DEPLOY / "prometheus"
SEVERITIES = {"critical", "warning"}


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [needed_binary("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("what", [("config", "prometheus.yml"), ("rules", "alerts.yml")])
def test_promtool_accepts_the_file(what: tuple[str, str]) -> None:
    kind, name = what
    checked = _promtool("check", kind, PROMETHEUS / name)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_fires_on_its_fault_and_not_without() -> None:
    tested = _promtool("test", "rules", PROMETHEUS / "alerts.test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_unit_tests_of_the_alerts_notice_an_alert_that_never_fires(tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    alerts = tmp_path / "alerts.yml"
    alerts.write_text(
        alerts.read_text(encoding="utf-8").replace("(fetchq_workers) == 0", "(fetchq_workers) < 0"), "utf-8"
    )
    assert _promtool("test", "rules", tmp_path / "alerts.test.yml").returncode != 0


def test_every_alert_is_tested_firing_and_not_firing() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text(encoding="utf-8"))["tests"]
    fired: dict[str, set[bool]] = defaultdict(set)
    for check in (check for test in tests for check in test["promql_expr_test"]):
        (name,) = re.findall(r'alertname="(\w+)"', check["expr"])
        fired[name].add("exp_samples" in check)
    assert fired.keys() == {rule["alert"] for rule in _rules()}
    assert [name for name, cases in fired.items() if cases != {True, False}] == []


@pytest.mark.parametrize("rule", _rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_is_wrong_how_bad_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["alert"].startswith("Fetchq")
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert all(text.endswith(".") for name, text in rule["annotations"].items() if name != "runbook_url")
    assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
    assert rule["for"]


def test_the_configuration_scrapes_the_jobs_that_the_alerts_name() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job["metrics_path"] for job in config["scrape_configs"]}
    named = {job for rule in _rules() for job in re.findall(r'job="([\w-]+)"', rule["expr"])}
    assert jobs == {"fetchq-queue": "/metrics/queue", "fetchq-worker": "/metrics"}
    assert named == jobs.keys()
