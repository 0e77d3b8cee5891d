"""The drill: it has a fault for each alert, and its Prometheus sees them."""

from __future__ import annotations

import asyncio

import pytest
from harness.drill.__main__ import markdown
from harness.drill.faults import FAULTS
from harness.drill.run import Outcome, drill
from harness.servers.prometheus import shortened
from tests.deploy.queries import alert_rules
from tests.support.redis_server import needed_binary


def test_there_is_a_fault_for_each_alert() -> None:
    alerts = {rule["alert"] for rule in alert_rules()}
    assert {alert for fault in FAULTS for alert in fault.alerts} == alerts
    assert {alert for fault in FAULTS for alert in fault.beside} <= alerts


def test_an_alert_that_no_fault_explains_is_a_problem() -> None:
    fault = FAULTS[0]
    (expected,) = fault.alerts
    assert Outcome(fault, frozenset({expected}), 1.0, 1.0).problems == []
    assert Outcome(fault, frozenset(), 1.0, 1.0).problems == [f"{expected} did not fire"]
    assert Outcome(fault, frozenset({expected, "FetchqOther"}), 1.0, 1.0).problems == ["FetchqOther fired"]


def test_the_table_says_what_did_not_fire_and_what_nothing_explains() -> None:
    well, badly = FAULTS[0], FAULTS[1]
    table = markdown([Outcome(well, well.alerts, 1.0, 1.0), Outcome(badly, frozenset({"FetchqOther"}), 1.0, 1.0)], 30.0)
    (first, second) = table.splitlines()[-2:]
    assert first == f"| {well.name} | {', '.join(well.alerts)} |  |"
    assert second == f"| {badly.name} | **{', '.join(badly.alerts)} did not fire** | FetchqOther: **not explained** |"


def test_every_time_of_a_rule_is_divided_and_long_enough_for_a_rate() -> None:
    rules = "expr: max(rate(a[10m])) and fetchq_oldest_due_seconds) > 600 offset 15m\nfor: 1h\nfor: 30s"
    assert shortened(rules, 30.0, at_most_s=60.0) == (
        "expr: max(rate(a[20s])) and fetchq_oldest_due_seconds) > 20 offset 30s\nfor: 60s\nfor: 2s"
    )


@pytest.mark.slow
def test_killed_workers_are_seen_by_the_alerts_that_are_for_them() -> None:
    needed_binary("prometheus")
    needed_binary("redis-server")
    faults = [fault for fault in FAULTS if "killed" in fault.name]
    assert len(faults) == 3
    outcomes = asyncio.run(drill(faults, lambda _: None, shorter_by=30.0, at_most_s=30.0))
    assert {outcome.fault.name: outcome.problems for outcome in outcomes} == {fault.name: [] for fault in faults}
