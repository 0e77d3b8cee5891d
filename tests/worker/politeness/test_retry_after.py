"""The `Retry-After` header."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from fetchq_worker.politeness.retry_after import retry_after_s

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60),
        ("Friday, 02-Jan-26 03:05:05 GMT", 60),
        ("Fri Jan  2 03:05:05 2026", 60),
        ("Fri, 02 Jan 2026 03:05:05 -0000", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("-1", None),
        ("soon", None),
        ("1.5", 2),
        ("30.5", 31),
        ("30.0", 30),
        ("0.001", 1),
        ("\t30\t", 30),
        ("30, 60", 60),
        ("30, soon", 30),
        ("30,", 30),
        ("000000000000000000000", math.inf),
        ("9" * 400, math.inf),
        ("99999999999999999999.5", math.inf),
        ("+30", None),
        ("1e3", None),
        ("30s", None),
        ("30 60", None),
        ("0x10", None),
        ("30.", None),
        ("nan", None),
        ("inf", None),
        ("", None),
        ("٣", None),
        ("Fri, 99 Jan 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_parsed_in_every_form_of_the_rfc(value: str, seconds: float | None) -> None:
    assert retry_after_s((("X", "1"), ("RETRY-AFTER", value)), NOW) == seconds


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Fri, 02 Jan 2026 03:04:35 GMT", 30),
        ("Fri, 02 Jan 2026 04:04:05 GMT", 0),
        ("Wed, 02 Jan 2019 03:05:05 GMT", 7 * 365 * 86_400 + 2 * 86_400),
        ("yesterday", 60),
        ("", 60),
    ],
)
def test_a_date_is_compared_with_the_servers_own_clock(date: str, seconds: float) -> None:
    headers = (("Date", date), ("Retry-After", "Fri, 02 Jan 2026 03:05:05 GMT"))

    assert retry_after_s(headers, NOW) == seconds


def test_of_several_fields_the_longest_counts() -> None:
    fields = [("Retry-After", value) for value in ("30", "soon", "Fri, 02 Jan 2026 03:05:05 GMT", "45")]
    assert retry_after_s(fields, NOW) == 60
    assert retry_after_s(fields[1:2], NOW) is None
