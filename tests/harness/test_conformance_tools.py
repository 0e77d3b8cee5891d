"""The comparison of what a tool observes under arq and under fetchq."""

from __future__ import annotations

from pathlib import Path

from harness.conformance import environment
from harness.conformance.tools import CASES, INSPECTED, INSPECTORS, STOCK, TOOLS, compare


def test_the_same_observations_are_no_problem() -> None:
    assert compare("tool", {STOCK: [["a", 1]], "fetchq worker": [["a", 1]]}) == []


def test_each_difference_is_named_with_the_way_in_which_the_worker_was_run() -> None:
    observed = {
        STOCK: {"errors": [1, 2], "spans": 3},
        "fetchq worker": {"errors": [2, 4, 5], "spans": 3},
        "class": None,
    }
    assert compare("tool", observed) == [
        "tool: with fetchq worker errors: 2 became 3: missing [1], added [4, 5]",
        "tool: with class {'errors': [1, 2], 'spans': 3} became None",
    ]


def test_a_tool_that_observes_nothing_under_arq_proves_nothing() -> None:
    [problem] = compare("tool", {STOCK: None, "fetchq worker": None})
    assert problem.startswith("tool: nothing was observed under arq")


def test_each_case_has_its_module_and_each_tool_its_pinned_version() -> None:
    folder = Path(environment.HERE, CASES.rpartition(".")[2])
    for name in (*(case.name for case in TOOLS), INSPECTED.name, *(name for _, name in INSPECTORS)):
        assert (folder / f"{name}.py").exists()
    for where in (environment.TOOLS, environment.DASHBOARD):
        pinned = {line.partition("==")[0] for line in where.constraints().splitlines()}
        assert pinned >= set(where.requirements)
