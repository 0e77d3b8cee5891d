"""The parts of docs/reliability.md that runs write, and those that they do not change."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.chaos.report import COLUMNS, SECTION, markdown, merged
from harness.page import Section

ORDER = ["kill_worker", "cut_network", "mixed"]


def _row(name: str, jobs: str) -> tuple[str, ...]:
    return (name, "2", jobs, *["0"] * (len(COLUMNS) - 3))


def test_the_rows_of_a_run_replace_those_of_the_same_names_and_leave_the_others() -> None:
    first = merged(
        "", [_row("kill_worker", "10"), _row("mixed", "20")], origin="`make chaos SEED=1` on a machine", order=ORDER
    )
    second = merged(first, [_row("mixed", "100"), _row("mixed", "101")], origin="`make chaos SEED=2` on X", order=ORDER)
    third = merged(second, [_row("cut_network", "30")], origin="`make chaos SEED=3` on Y", order=ORDER)
    assert third.splitlines()[2:5] == [
        "- `make chaos SEED=1` on a machine: kill_worker",
        "- `make chaos SEED=2` on X: mixed",
        "- `make chaos SEED=3` on Y: cut_network",
    ]
    assert third.endswith(
        markdown([_row("kill_worker", "10"), _row("cut_network", "30"), _row("mixed", "100"), _row("mixed", "101")])
    )


def test_a_command_without_remaining_rows_is_not_named() -> None:
    first = merged("", [_row("mixed", "20")], origin="one", order=ORDER)
    assert "one" not in merged(first, [_row("mixed", "30")], origin="two", order=ORDER)


def test_a_row_older_than_a_column_has_a_dash_in_it() -> None:
    old = "| fault | jobs | LOST |\n|---|---:|---:|\n| kill_worker | 5 | 0 |"
    text = merged(old, [_row("mixed", "20")], origin="one", order=ORDER)
    cells = dict(zip(COLUMNS, [cell.strip() for cell in text.splitlines()[-2].strip("|").split("|")], strict=True))
    assert (cells["fault"], cells["jobs"], cells["LOST"], cells["over the limit"]) == ("kill_worker", "5", "0", "-")


def test_a_section_is_written_between_its_markers_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x: begin -->\nold\n<!-- x: end -->\nafter\n")
    section = Section("x", page)
    assert section.read() == "old"
    section.write("new\nlines")
    assert page.read_text() == "before\n<!-- x: begin -->\nnew\nlines\n<!-- x: end -->\nafter\n"
    with pytest.raises(ValueError, match=r"page\.md has no section y"):
        Section("y", page).write("")


@pytest.mark.parametrize("name", ["chaos", "plug", "soak"])
def test_the_page_has_the_sections_that_runs_write(name: str) -> None:
    Section(name).read()


def test_all_present_rows_of_the_page_can_be_read() -> None:
    rows = [line.split("|")[1].strip() for line in SECTION.read().splitlines() if line[:1] == "|"][2:]
    text = merged(SECTION.read(), [_row("new", "1")], origin="one", order=["new"])
    kept = [line.split("|")[1].strip() for line in text.splitlines() if line[:1] == "|"][2:]
    assert sorted(kept) == sorted([*rows, "new"])
