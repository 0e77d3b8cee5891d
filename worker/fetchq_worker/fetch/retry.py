"""Whether a failed attempt is followed by another, and after how long. Pure: no clock, no randomness of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from fetchq import FetchRequest, FetchResult


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
    if sent and not (request.idempotent or request.repeat_unsafe):
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
    """What `Retry-After` asks for (RFC 9110, section 10.2.3), as seconds from now; None: nothing that can be read."""
    value = next((value.strip() for name, value in headers if name.lower() == "retry-after"), "")
    if value.isascii() and value.isdigit():
        return float(value) if len(value) < 16 else float("inf")
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    if moment.tzinfo is None:  # "-0000", and asctime's form, name no zone: HTTP's dates are UTC
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
