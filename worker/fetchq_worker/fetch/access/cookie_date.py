"""The dates of a cookie's Expires attribute: any order, any delimiters (RFC 6265bis, section 5.1.1)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_TOKEN: Final = re.compile(r"[^\t\x20-/;-@\[-`{-~]+")
_TIME: Final = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?!\d)", re.ASCII)
_DAY: Final = re.compile(r"(\d{1,2})(?!\d)", re.ASCII)
_YEAR: Final = re.compile(r"(\d{2,4})(?!\d)", re.ASCII)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FIRST_YEAR: Final = 1601


def cookie_date_s(text: str) -> float | None:
    """Seconds since 1970; None if the text has no time, day, month or year, or if there is no such moment."""
    time = day = year = None
    month = 0
    for token in _TOKEN.findall(text):
        if time is None and (time := _TIME.match(token)):
            continue
        if day is None and (day := _DAY.match(token)):
            continue
        if not month and token[:3].lower() in _MONTHS:
            month = _MONTHS.index(token[:3].lower()) + 1
            continue
        if year is None:
            year = _YEAR.match(token)
    if time is None or day is None or year is None or not month:
        return None
    hour, minute, second = (int(part) for part in time.groups())
    full_year = _full_year(int(year[1]))
    if full_year < _FIRST_YEAR:
        return None
    try:
        return datetime(full_year, month, int(day[1]), hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _full_year(year: int) -> int:
    if year < 70:
        return year + 2000
    return year + 1900 if year < 100 else year
