"""Numbers and times as words, and what a terminal can show."""

from __future__ import annotations

import pytest

from fetchq import HostState
from fetchq_worker.cli.top.words import (
    ASCII,
    UNICODE,
    Glyphs,
    duration,
    glyphs_for,
    next_start,
    number,
    rate,
    size,
    waiting,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0 s"), (0, "0.0 s"), (3.21, "3.2 s"), (59.97, "1 min 0 s"), (125, "2 min 5 s"), (12_000, "3 h 20 min"),
     (352_900, "4 d 2 h")],
)  # fmt: skip
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(0, "0/s"), (0.001, "1/min"), (0.05, "3/min"), (0.14, "0.1/s"), (9.94, "9.9/s"), (812.4, "812/s"),
     (2_500_000, "2.50M/s")],
)  # fmt: skip
def test_a_rate_that_is_not_zero_is_not_shown_as_zero(per_second: float, text: str) -> None:
    assert rate(per_second) == text


def test_numbers_sizes_and_jobs() -> None:
    assert [number(value) for value in (0, 12_345, 999_999, 1_234_567, 2e9, 3e12)] == [
        "0", "12,345", "999,999", "1.23M", "2.00G", "3.00T",
    ]  # fmt: skip
    assert [size(octets) for octets in (0, 1023, 1536, 300 << 20, 5 << 40)] == [
        "0 B", "1023 B", "1.5 KiB", "300 MiB", "5.0 TiB",
    ]  # fmt: skip
    assert [waiting(1), waiting(2)] == ["1 job waits", "2 jobs wait"]


@pytest.mark.parametrize(
    ("environ", "glyphs"),
    [
        ({}, ASCII),
        ({"LANG": "C"}, ASCII),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, ASCII),  # Python's own doing
        ({"LANG": "de_DE.ISO-8859-1"}, ASCII),
        ({"LANG": "C.UTF-8", "LC_CTYPE": "C.UTF-8"}, UNICODE),
        ({"LANG": "de_DE.UTF-8"}, UNICODE),
        ({"LC_CTYPE": "UTF-8"}, UNICODE),  # macOS
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, ASCII),
        ({"LANG": "en_US.utf8", "TERM": "linux"}, ASCII),
    ],
)
def test_only_a_terminal_with_utf8_gets_more_than_ascii(environ: dict[str, str], glyphs: Glyphs) -> None:
    assert glyphs_for(environ) is glyphs


def test_text_from_outside_has_no_control_characters_and_fits() -> None:
    hostile = "\x1b[2Jevil\r\n\x9b1m\u202egro\u00df"
    assert UNICODE.clean(hostile) == "\ufffd[2Jevil\ufffd\ufffd\ufffd1m\ufffdgro\u00df"
    assert ASCII.clean(hostile) == "?[2Jevil???1m?gro?"
    assert [UNICODE.fit("abcdef", width) for width in (0, 1, 4, 8)] == ["", "…", "abc…", "abcdef  "]
    assert UNICODE.fit("日本語", 5) == "日本…"  # two cells a character
    assert ASCII.fit("abcdef", 4) == "abc~"


@pytest.mark.parametrize(
    ("host", "text"),
    [
        (HostState(host="a", waiting=3, paused=True, cooldown_s=5), "paused"),
        (HostState(host="a", cooldown_s=58.2, failed_connections=5), "cooldown 58.2 s, 5 failed in a row"),
        (HostState(host="a", cooldown_s=12, consecutive_throttles=2), "cooldown 12.0 s, throttled 2x"),
        (HostState(host="a", cooldown_s=12), "cooldown 12.0 s"),
        (HostState(host="a", due=1, waiting=4), "when a slot is free"),
        (HostState(host="a", waiting=4, next_start_s=1.94), "in 1.9 s"),
        (HostState(host="a", waiting=4, running=8), "when one ends"),
        (HostState(host="a", running=8), ""),
    ],
)
def test_a_host_says_when_its_next_job_starts(host: HostState, text: str) -> None:
    assert next_start(host) == text


def test_of_a_paused_queue_no_host_starts_a_job() -> None:
    assert next_start(HostState(host="a", due=1), queue_is_paused=True) == "the queue is paused"
