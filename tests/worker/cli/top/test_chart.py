"""Bars by minute."""

from __future__ import annotations

import pytest

from fetchq_worker.cli.top.chart import bar_rows, throughput, throughput_in_numbers
from fetchq_worker.cli.top.view import MinuteCounts
from fetchq_worker.cli.top.words import ASCII, UNICODE


def test_a_bar_is_as_high_as_its_share_of_the_highest() -> None:
    assert bar_rows([0, 1, 50, 100], 1, UNICODE, 100) == [" ▁▄█"]
    assert bar_rows([0, 1, 50, 100], 2, UNICODE, 100) == ["   █", " ▁██"]
    assert bar_rows([0, 1, 50, 100], 1, ASCII, 100) == [" .=#"]
    assert bar_rows([0, 0], 2, UNICODE, 0) == ["  ", "  "]
    assert bar_rows([], 1, UNICODE, 0) == [""]


@pytest.mark.parametrize("width", [30, 60, 80, 120, 200])
def test_the_chart_is_no_wider_than_the_terminal_and_ends_with_this_minute(width: int) -> None:
    minutes = [MinuteCounts(number, 10**9 if number == 60 else 0, number == 60) for number in range(61)]
    lines = throughput(minutes, width, 2, UNICODE)
    assert len(lines) == 4
    assert max(line.cell_len for line in lines[1:]) <= width
    assert lines[1].plain.rstrip()[-1] == "█"
    assert lines[2].plain.endswith(" max 1.00G")


def test_without_failures_there_is_no_row_for_them() -> None:
    assert len(throughput([MinuteCounts(1, 5)], 80, 2, UNICODE)) == 3
    assert len(throughput([], 80, 2, UNICODE)) == 3


def test_numbers_are_left_out_from_the_oldest_on_where_there_is_no_room() -> None:
    minutes = [MinuteCounts(number, number * 1000, 0) for number in range(61)]
    assert [line.plain for line in throughput_in_numbers(minutes, 30)] == [
        "finished  59,000 60,000",
        "failed    0 0 0 0 0 0 0 0 0 0",
    ]
