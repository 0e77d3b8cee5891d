"""Which failed fetches become dead letters, and what is stored of them. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from fetchq import FetchRequest, FetchResult, FetchStatus
from fetchq_worker.settings import DeadLetterKind

_WORKER_FAILURES: Final = frozenset({FetchStatus.WORKER_LOST, FetchStatus.INVALID_JOB, FetchStatus.INTERNAL_ERROR})
"""Failures that no web server caused: the same job may succeed once a worker or a producer is fixed."""


def is_dead_letter(kind: DeadLetterKind, request: FetchRequest | None, result: FetchResult) -> bool:
    """Whether a job that ended with this result becomes a dead letter. `request` is None if it was unreadable.

    A retryable failure counts, since no attempt remained: the tries were used up, the deadline was too near, or the
    request must not be sent twice. CANCELLED was requested and never counts.
    """
    if kind is DeadLetterKind.NONE or result.ok or result.status is FetchStatus.CANCELLED:
        return False
    if kind is DeadLetterKind.ALL or result.status in _WORKER_FAILURES:
        return True
    return request is not None and request.retry.covers(result.status, result.http_status)


def dead_letter_of(result: FetchResult) -> FetchResult:
    """The result without headers, body and redirects, which can take megabytes."""
    return msgspec.structs.replace(result, headers=(), body=b"", redirects=())
