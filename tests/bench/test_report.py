"""The report of a run: medians, targets, gaps, and the blocks of the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.report import page, tables
from bench.report.results import FIGURES, Machine, Results, percentile
from bench.report.targets import judge
from bench.testbed.failure import BenchFailure


def _results() -> Results:
    machine = Machine(
        processor="a processor", cores=2, memory_gb=8.0, system="Linux 6", python="CPython 3", load_before=0.1
    )
    return Results(taken_at="2026-01-02 03:04 UTC", machine=machine, rounds=3, concurrency=100)


def _add(results: Results, figure: str, peer: str, *samples: float) -> None:
    results.series(figure, peer).samples.extend(samples)


def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert (percentile(values, 50), percentile(values, 99)) == (50.0, 99.0)
    assert (percentile([7.0], 50), percentile([7.0], 99)) == (7.0, 7.0)


def test_a_target_is_judged_by_the_ratio_of_the_medians() -> None:
    results = _results()
    _add(results, "fetch_2k", "fetchq", 100.0, 1200.0, 1300.0)
    _add(results, "fetch_2k", "arq-tuned", 100.0, 100.0, 100.0)
    _add(results, "fetch_2k", "bullmq", 1000.0, 500.0, 501.0)
    verdicts = {verdict.title: verdict for verdict in judge(results)}
    assert verdicts["2 KB fetches against arq, tuned"].met is True
    assert verdicts["2 KB fetches against arq, tuned"].reached == "12x"
    assert verdicts["2 KB fetches against BullMQ"].met is False
    assert verdicts["2 KB fetches against the bare loop"].met is None


def test_enqueueing_is_judged_against_whichever_peer_is_fastest() -> None:
    results = _results()
    for peer, rate in (("fetchq", 30.0), ("arq", 10.0), ("saq", 40.0), ("bullmq", 20.0)):
        _add(results, "enqueue_many", peer, rate)
    verdicts = {verdict.title: verdict for verdict in judge(results)}
    assert verdicts["enqueue many against the fastest peer"].reached == "0.75x"


def test_the_quick_table_says_how_many_times_as_good_each_figure_of_ours_is() -> None:
    results = _results()
    _add(results, "empty", "fetchq", 3_000.0)
    _add(results, "empty", "saq", 1_000.0)
    _add(results, "idle_pick_up_p50", "fetchq", 2.0)
    _add(results, "idle_pick_up_p50", "saq", 3.0)
    results.series("empty", "bullmq").problem = "node is missing"
    lines = tables.compact(results).splitlines()
    assert lines[0].split("  ")[-1] == "BullMQ"
    assert "3,000   1,000 (3.00x)" in lines[1]
    assert "2.00    3.00 (1.50x)" in lines[2]
    assert lines[-1] == "BullMQ: node is missing"


def test_the_recovery_target_is_checked_in_the_worst_round() -> None:
    results = _results()
    _add(results, "recovery", "fetchq", 13.0, 13.0, 21.0)
    assert [v.met for v in judge(results) if v.title.startswith("a killed worker's jobs")] == [False]


def test_every_figure_has_its_place_in_the_tables() -> None:
    placed = [figure for _, figures in tables.SECTIONS for figure in figures]
    assert sorted(placed) == sorted(FIGURES)


def test_a_peer_that_failed_has_the_reason_where_its_number_would_be() -> None:
    results = _results()
    _add(results, "empty", "fetchq", 20_000.0, 21_000.0, 22_000.0)
    results.series("empty", "streaq").problem = "its producer ended: no module | named streaq"
    table, text = tables.markdown(results), tables.text(results)
    assert "| fetchq | 21,000 (20,000 to 22,000) |" in table
    assert "| streaq | see below |" in table
    assert r"- streaq: its producer ended: no module \| named streaq" in table
    assert "its producer ended" in text


def test_a_block_of_the_page_is_replaced_and_the_rest_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- figures: written by the bench -->\nold\n<!-- end of figures -->\nafter\n")
    page.put("figures", "new", path)
    page.put("figures", "newer", path)
    assert path.read_text() == (
        "before\n<!-- figures: written by the bench -->\n\nnewer\n\n<!-- end of figures -->\nafter\n"
    )


def test_a_page_without_the_block_is_an_error_and_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("nothing here\n")
    with pytest.raises(BenchFailure, match="no block 'figures'"):
        page.put("figures", "new", path)
    assert path.read_text() == "nothing here\n"


@pytest.mark.parametrize("block", ["figures", "profile"])
def test_the_performance_page_has_both_blocks(block: str, tmp_path: Path) -> None:
    copy = tmp_path / "performance.md"
    copy.write_text(page.PAGE.read_text())
    page.put(block, "new", copy)
    assert "\nnew\n" in copy.read_text()
