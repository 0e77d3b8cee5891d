"""The verdict of `make conformance`."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.conformance import environment
from harness.conformance.verdict import Excuse, Outcome, Run, judge_stock, judge_swapped, read_listed

PASSED = Outcome("passed")
FAILED = Outcome("failed", "boom")
SKIPPED = Outcome("skipped", "not here")
LISTED = {"t::a": (Excuse.ROUND_TRIPS, "it counts commands")}


def test_a_stock_failure_is_a_problem_and_a_skip_is_none() -> None:
    assert judge_stock(Run({"t::a": PASSED, "t::b": SKIPPED})) == []
    assert judge_stock(Run({"t::a": PASSED, "t::b": FAILED})) == ["stock arq: t::b failed: boom"]


def test_a_stock_run_in_which_nothing_passed_proves_nothing() -> None:
    assert judge_stock(Run({})) == ["stock arq: not one test passed"]
    assert judge_stock(Run({"t::a": SKIPPED})) == ["stock arq: not one test passed"]


def test_a_run_that_passes_what_stock_passes_conforms() -> None:
    assert judge_swapped(Run({"t::a": PASSED, "t::b": SKIPPED}), Run({"t::a": PASSED, "t::b": SKIPPED}), {}) == []


@pytest.mark.parametrize("after", [FAILED, SKIPPED])
def test_an_unlisted_test_that_does_not_pass_is_a_problem(after: Outcome) -> None:
    assert judge_swapped(Run({"t::a": PASSED}), Run({"t::a": after}), {}) == [f"t::a {after.outcome}: {after.detail}"]


def test_a_run_that_leaks_after_its_last_test_is_a_problem() -> None:
    leaked = Run({"t::a": PASSED}, exit_status=1)
    sentence = "no test failed, but pytest ended with status 1"
    assert judge_swapped(Run({"t::a": PASSED}), leaked, {}) == [sentence]
    assert judge_stock(leaked) == [f"stock arq: {sentence}"]


def test_a_test_that_did_not_run_is_a_problem() -> None:
    assert judge_swapped(Run({"t::a": PASSED}), Run({}), {}) == ["t::a missing: it did not run at all"]


def test_a_listed_test_may_fail_but_not_pass() -> None:
    assert judge_swapped(Run({"t::a": PASSED}), Run({"t::a": FAILED}), LISTED) == []
    assert judge_swapped(Run({"t::a": PASSED}), Run({"t::a": PASSED}), LISTED) == ["t::a passes: take it off the list"]


def test_a_listed_test_that_arq_does_not_have_is_a_problem() -> None:
    assert judge_swapped(Run({}), Run({}), LISTED) == ["t::a is listed, but arq has no such test"]


def test_the_committed_list_is_readable() -> None:
    for _excuse, reason in read_listed(environment.HERE / "exceptions.toml").values():
        assert reason.strip()


@pytest.mark.parametrize(
    "text", ['[flaky]\n"t::a" = "now and then"', '[reaches_into_underscore_methods]\n"t::a" = " "']
)
def test_a_list_with_another_excuse_or_no_reason_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "exceptions.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"flaky|without a reason"):
        read_listed(path)


def test_the_locked_test_versions_outrank_the_projects() -> None:
    merged = environment.SUITE.constraints().splitlines()
    assert "pytest-asyncio==0.23.6" in merged
    assert "redis==5.3.1" in merged
    assert len({line.partition("==")[0] for line in merged}) == len(merged)
