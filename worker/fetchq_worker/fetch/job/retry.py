"""Whether a failed attempt is followed by another, and after which delay. Pure: no clock and no random source."""

from __future__ import annotations

from datetime import datetime

import msgspec

from fetchq import FetchRequest, FetchResult
from fetchq_worker.politeness.retry_after import retry_after_s


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
