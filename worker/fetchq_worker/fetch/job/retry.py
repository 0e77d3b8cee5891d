"""Whether a failed attempt is followed by another, and after which delay. Pure: no clock and no random source."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from fetchq import FetchRequest, FetchResult
from fetchq_worker.fetch.http.errors import RobotsUnavailable
from fetchq_worker.politeness.retry_after import retry_after_s

MAX_ROBOTS_WAIT_S: Final = 300.0
"""How long after its first failure jobs wait for a robots.txt. Then their attempts fail as it did, and are retried."""
MIN_ROBOTS_WAIT_S: Final = 0.01
"""The time until the next request may have passed in the meantime."""
ROBOTS_JITTER_S: Final = 1.0
"""Spreads the requests of the workers: the first one's answer is known to the others."""


def next_delay_s(
    request: FetchRequest, attempt: FetchResult, *, made: int, sent: bool, now: datetime, draw: float
) -> float | None:
    """Seconds until the next attempt; None: this attempt's outcome is the result.

    `made` counts the attempts so far, `sent` says whether this one may have reached a server, and `draw`, uniform in
    [0, 1), is the full jitter.
    """
    policy = request.retry
    if made >= policy.max_tries or not policy.covers(attempt.status, attempt.http_status):
        return None
    if sent and not may_repeat(request):
        return None
    # Bounded: the float would overflow past 2**1023, and max_tries is at most 100.
    delay_s = draw * min(policy.cap_s, policy.base_s * 2.0 ** (made - 1))
    asked_s = retry_after_s(attempt.headers, now)
    if asked_s is not None:
        delay_s = max(delay_s, min(asked_s, policy.max_retry_after_s))
    if request.deadline is not None and (request.deadline - now).total_seconds() < delay_s:
        return None
    return delay_s


def robots_wait_s(
    request: FetchRequest, unavailable: RobotsUnavailable, *, sent: bool, now: datetime, draw: float
) -> float | None:
    """Seconds to wait for a robots.txt that cannot be had, before an attempt that replaces this one.

    None: this attempt counts, since robots.txt has been unavailable for too long, or is not requested again before the
    deadline. The other arguments are those of `next_delay_s`.
    """
    if not unavailable.status.retryable or (sent and not may_repeat(request)):
        return None
    longest_s = request.retry.max_retry_after_s
    if unavailable.lasts_s >= min(MAX_ROBOTS_WAIT_S, longest_s):
        return None
    wait_s = max(MIN_ROBOTS_WAIT_S, min(unavailable.again_in_s, longest_s)) + draw * ROBOTS_JITTER_S
    if request.deadline is not None and (request.deadline - now).total_seconds() < wait_s:
        return None
    return wait_s


def may_repeat(request: FetchRequest) -> bool:
    """Whether the request may be sent again after it may have reached a server."""
    return request.idempotent or request.retry_non_idempotent


def with_idempotency_key(request: FetchRequest, key: str) -> FetchRequest:
    """Adds an Idempotency-Key, the same for all attempts, to a non-idempotent request that may be repeated.

    Source: draft-ietf-httpapi-idempotency-key-header, "The Idempotency-Key HTTP Request Header Field".
    """
    if request.idempotent or not request.retry_non_idempotent:
        return request
    if any(name.lower() == "idempotency-key" for name, _ in request.headers):
        return request
    return msgspec.structs.replace(request, headers=(*request.headers, ("Idempotency-Key", key)))
