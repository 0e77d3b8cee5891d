"""Tables that lose columns before they wrap."""

from __future__ import annotations

import pytest
from tests.worker.cli.top.samples import NOW_MS, busy, worker

from fetchq_worker.cli.top.tables import HOST_COLUMNS, WORKER_COLUMNS, host_row, is_silent, table, worker_row
from fetchq_worker.cli.top.words import ASCII, UNICODE, Glyphs


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
@pytest.mark.parametrize("width", [1, 5, 12, 30, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int, glyphs: Glyphs) -> None:
    hosts = [host_row(host, glyphs, queue_is_paused=False) for host in busy().snapshot.hosts]
    workers = [worker_row(worker(1, host="n" * 300), NOW_MS, glyphs)]
    lines = [*table(HOST_COLUMNS, hosts, width, glyphs, marked=2), *table(WORKER_COLUMNS, workers, width, glyphs)]
    assert max(line.cell_len for line in lines) <= width


def test_a_narrow_terminal_keeps_what_matters_most() -> None:
    def titles(width: int) -> str:
        return " ".join(table(HOST_COLUMNS, [], width, UNICODE)[0].plain.split())

    assert titles(120) == "host waiting due running next start last outcome"
    assert titles(80) == "host waiting due running next start"
    assert titles(60) == "host waiting running next start"
    assert titles(30) == "host waiting"


def test_a_long_name_gets_the_room_that_is_left() -> None:
    long = worker(1, host="a-worker-with-a-long-name.cluster.internal")
    [_, line] = table(WORKER_COLUMNS, [worker_row(long, NOW_MS, UNICODE)], 160, UNICODE)
    assert line.plain.startswith("a-worker-with-a-long-name.cluster.internal ")
    [_, line] = table(WORKER_COLUMNS, [worker_row(long, NOW_MS, UNICODE)], 40, UNICODE)
    assert line.plain.startswith("a-worker-wi")


def test_a_heartbeat_is_late_after_two_intervals_and_ten_seconds() -> None:
    ages = {3.0: False, 9.0: False, 11.0: True}
    assert {age: is_silent(worker(1, heartbeat_ms=NOW_MS - age * 1000), NOW_MS) for age in ages} == ages
    slow = worker(1, heartbeat_s=20.0, heartbeat_ms=NOW_MS - 30_000)
    assert not is_silent(slow, NOW_MS)
    assert is_silent(slow, NOW_MS + 11_000)
