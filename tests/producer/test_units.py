"""Times, sizes and rates as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchq.units import duration_text, parse_bytes, parse_duration_s, parse_interval_s, size_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30.0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("30s", 30.0),
        ("500ms", 0.5),
        ("2d", 172_800.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("1.5 h", 5400.0),
        ("1w", 604_800.0),
        ("2 hours", 7200.0),
        ("90 SEC", 90.0),
        (" 5min ", 300.0),
        ("-5", -5.0),
    ],
)
def test_a_time_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "s", "30x", "30m1h", "1m1m", "1h-30m", "-5s", "1h30", "inf", "nan", "½s", "٣", "1y", "9" * 50]
)
def test_other_text_is_not_a_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"^takes a time such as 30s, 500ms, 1h30m or 2d, not '"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("65536", 65_536),
        ("64k", 65_536),
        ("64K", 65_536),
        ("64KiB", 65_536),
        ("64kB", 64_000),
        ("4MiB", 4_194_304),
        ("1.5 M", 1_572_864),
        ("1GB", 10**9),
        ("10b", 10),
        ("-1", -1),
    ],
)
def test_a_size_is_read_in_bytes_with_the_units_of_coreutils(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "k", "64kk", "4 MiBytes", "1.5", "1e3", "-1k", "64k 1"])
def test_other_text_is_not_a_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"^takes a size such as 65536, 64k, 4MiB or 1GB, not '"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [("5/h", 720.0), ("10/s", 0.1), ("100/min", 0.6), ("1/30s", 30.0), ("2 / 1h30m", 2700.0), ("0.5/s", 2.0)],
)
def test_a_rate_is_read_as_the_seconds_between_two_starts(rate: str, seconds: float) -> None:
    assert parse_interval_s(rate) == pytest.approx(seconds)


@pytest.mark.parametrize("rate", ["", "5", "5/", "/s", "0/s", "-1/s", "5/3", "5/s/s", "5/fortnight", "x/s", "1/0s"])
def test_other_text_is_not_a_rate(rate: str) -> None:
    with pytest.raises(ValueError, match=r"^takes a number per time, such as 2/s, 100/min, 5/h or 1/30s, not '"):
        parse_interval_s(rate)


@given(st.one_of(st.integers(0, 10**9).map(float), st.floats(0, 10**6, allow_subnormal=False)))
def test_a_time_is_written_so_that_it_is_read_as_the_same(seconds: float) -> None:
    rounded = float(f"{seconds:.9f}")
    assert parse_duration_s(duration_text(rounded)) == pytest.approx(rounded)


@given(st.integers(0, 2**50))
def test_a_size_is_written_so_that_it_is_read_as_the_same(size: int) -> None:
    assert parse_bytes(size_text(size)) == size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (20.0, "20s"), (0.25, "0.25s"), (86_400, "1d"), (2_592_000, "30d"), (5400, "1h30m")],
)
def test_a_time_is_written_in_its_largest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0"), (1000, "1000"), (65_536, "64KiB"), (4_194_304, "4MiB")])
def test_a_size_is_written_in_its_largest_whole_unit(size: int, text: str) -> None:
    assert size_text(size) == text
