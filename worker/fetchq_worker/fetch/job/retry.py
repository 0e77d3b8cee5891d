"""Whether a failed attempt is followed by another, and after how long. Pure: no clock, no randomness of its own."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from fetchq import FetchRequest, FetchResult

_TWO_DIGIT_YEAR: Final = re.compile(r"-[A-Za-z]{3}-\d\d ")
"""RFC 850's form, which Python's parser takes to end in 2068."""


def next_delay_s(
    request: FetchRequest, attempt: FetchResult, *, made: int, sent: bool, now: datetime, draw: float
) -> float | None:
    """Seconds until the next attempt; None: this one's outcome is the result.

    `made` counts the attempts so far, `sent` says whether this one may have reached a server, and `draw`, evenly from
    [0, 1), is the full jitter.
    """
    policy = request.retry
    if made >= policy.max_tries or not policy.covers(attempt.status, attempt.http_status):
        return None
    if sent and not (request.idempotent or request.retry_non_idempotent):
        return None
    # The exponent is bounded as a float would overflow past 2**1023, and max_tries ends at 100 anyway.
    delay_s = draw * min(policy.cap_s, policy.base_s * 2.0 ** (made - 1))
    asked_s = retry_after_s(attempt.headers, now)
    if asked_s is not None:
        delay_s = max(delay_s, min(asked_s, policy.max_retry_after_s))
    if request.deadline is not None and (request.deadline - now).total_seconds() < delay_s:
        return None
    return delay_s


def retry_after_s(headers: tuple[tuple[str, str], ...], now: datetime) -> float | None:
    """What `Retry-After` asks for (RFC 9110, section 10.2.3), as seconds from now; None: nothing that can be read.

    A moment is the server's: it is compared with the server's own `Date`, where there is one, so that a clock that is
    wrong here or there does not count.
    """
    value = _field(headers, "retry-after")
    if value.isascii() and value.isdigit():
        return float(value) if len(value) < 16 else float("inf")
    moment = http_date(value, now)
    if moment is None:
        return None
    answered = http_date(_field(headers, "date"), now)
    return max(0.0, (moment - (now if answered is None else answered)).total_seconds())


def http_date(value: str, now: datetime) -> datetime | None:
    """A moment in any of the three forms of RFC 9110, section 5.6.7; None: it is in none of them.

    A year of two digits that seems to be more than 50 years ahead is the one a century before.
    """
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:  # "-0000", and asctime's form, name no zone: HTTP's dates are UTC
            moment = moment.replace(tzinfo=UTC)
        if _TWO_DIGIT_YEAR.search(value):
            year = now.year // 100 * 100 + moment.year % 100
            moment = moment.replace(year=year - 100 if year > now.year + 50 else year)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return moment


def _field(headers: tuple[tuple[str, str], ...], lower_name: str) -> str:
    return next((value.strip() for name, value in headers if name.lower() == lower_name), "")
