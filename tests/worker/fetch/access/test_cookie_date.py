"""The dates of a cookie's Expires attribute."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fetchq_worker.fetch.access.cookie_date import cookie_date_s

WHEN = datetime(2031, 4, 5, 6, 7, 8, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "Sat, 05 Apr 2031 06:07:08 GMT",
        "Saturday, 05-Apr-31 06:07:08 GMT",
        "Sat Apr  5 06:07:08 2031",
        "5 apr 2031 6:7:8",
        "2031 April 5th 06:07:08",
        "06:07:08;05/APR/2031",
        "Sat, 05 Apr 2031 06:07:08 +0900",
        "Sat, 05 Apr 2031 06:07:08.999 UTC",
        "5 Aprilis 31 06:07:08 09:09:09 6 May 1999",
    ],
)
def test_a_date_is_read_in_any_order_and_the_zone_is_ignored(text: str) -> None:
    assert cookie_date_s(text) == WHEN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "Sat, 05 Apr 2031",
        "Sat, Apr 2031 06:07:08 GMT",
        "05 2031 06:07:08",
        "05 Apr 06:07:08",
        "31 Feb 2031 06:07:08",
        "05 Apr 1600 06:07:08",
        "05 Apr 20311 06:07:08",
        "05 Apr 2031 24:00:00",
        "05 Apr 2031 06:07:60",
        "05 Apr 2031 06:07",
        "00 Apr 2031 06:07:08",
        "\u0660\u0665 Apr 2031 06:07:08",
    ],
)
def test_what_lacks_a_part_or_names_no_moment_is_no_date(text: str) -> None:
    assert cookie_date_s(text) is None


@pytest.mark.parametrize(("year", "full"), [("69", 2069), ("70", 1970), ("99", 1999), ("00", 2000), ("101", None)])
def test_two_digits_are_the_years_1970_to_2069(year: str, full: int | None) -> None:
    expected = None if full is None else datetime(full, 1, 1, tzinfo=UTC).timestamp()
    assert cookie_date_s(f"01 Jan {year} 00:00:00") == expected
