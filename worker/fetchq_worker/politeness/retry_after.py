"""The `Retry-After` header and HTTP dates (RFC 9110, sections 10.2.3 and 5.6.7)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_TWO_DIGIT_YEAR: Final = re.compile(r"-[A-Za-z]{3}-\d\d ")
"""RFC 850's form. Python's parser maps such a year to 1969..2068, RFC 9110 to a window around today."""


def retry_after_s(headers: tuple[tuple[str, str], ...], now: datetime) -> float | None:
    """The delay that `Retry-After` asks for, in seconds from now; None if it is absent or malformed.

    A date is compared with the server's own `Date` where there is one, so that neither clock's error counts.
    """
    value = _field(headers, "retry-after")
    if value.isascii() and value.isdigit():
        return float(value) if len(value) < 16 else float("inf")
    date = http_date(value, now)
    if date is None:
        return None
    sent = http_date(_field(headers, "date"), now)
    return max(0.0, (date - (now if sent is None else sent)).total_seconds())


def http_date(value: str, now: datetime) -> datetime | None:
    """A date in any of the three forms of RFC 9110, section 5.6.7; None if it is malformed.

    A two-digit year more than 50 years after `now` belongs to the century before.
    """
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:  # "-0000" and asctime's form name no zone; HTTP dates are UTC
            date = date.replace(tzinfo=UTC)
        if _TWO_DIGIT_YEAR.search(value):
            year = now.year // 100 * 100 + date.year % 100
            date = date.replace(year=year - 100 if year > now.year + 50 else year)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return date


def _field(headers: tuple[tuple[str, str], ...], lower_name: str) -> str:
    return next((value.strip() for name, value in headers if name.lower() == lower_name), "")
