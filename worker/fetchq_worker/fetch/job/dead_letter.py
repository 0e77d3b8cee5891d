"""Which fetches end as dead letters, and what the letter says. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from fetchq import FetchRequest, FetchResult, FetchStatus
from fetchq_worker.settings import DeadLetterKind

_OURS: Final = frozenset({FetchStatus.WORKER_LOST, FetchStatus.INVALID_JOB, FetchStatus.INTERNAL_ERROR})
"""Not the web's doing: the same job may well end otherwise once a worker is mended."""
_WANTED: Final = FetchStatus.CANCELLED
"""The one failure that somebody asked for."""


def is_dead(kind: DeadLetterKind, request: FetchRequest | None, result: FetchResult) -> bool:
    """Whether a job that ended so is to be kept. `request` is None where there was none that could be read.

    A failure that its request calls worth another try is one that had no try left: they were used up, the deadline left
    no time for another, or the request may not be sent twice.
    """
    if kind is DeadLetterKind.NONE or result.ok or result.status is _WANTED:
        return False
    if kind is DeadLetterKind.ALL or result.status in _OURS:
        return True
    return request is not None and request.retry.covers(result.status, result.http_status)


def letter_of(result: FetchResult) -> FetchResult:
    """What the letter says: the attempts and the error, without what a server sent, which can be megabytes."""
    return msgspec.structs.replace(result, headers=(), body=b"", redirects=())
