"""Jobs that end without an attempt: their request is invalid, their deadline has passed, or their worker was lost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from fetchq import FetchRequest, FetchResult, FetchStatus, InvalidRequest, NewerWireVersion
from fetchq.contract.urls import MAX_URL_CHARS

from .crashes import lost_because
from .history import AttemptHistory


class EarlyEnd(NamedTuple):
    """The end of a job that is not run (again)."""

    request: FetchRequest | None
    """None: it is invalid."""
    result: FetchResult


def invalid_result(job_id: str, request: object, broken: InvalidRequest | NewerWireVersion) -> FetchResult:
    """INVALID_URL if the URL alone is at fault, INVALID_JOB otherwise."""
    url = request.get("url") if isinstance(request, Mapping) else None
    status = FetchStatus.INVALID_JOB
    if isinstance(broken, InvalidRequest) and broken.field == "url" and isinstance(url, str):
        status = FetchStatus.INVALID_URL
    shown = url[:MAX_URL_CHARS].encode("utf-8", "replace").decode() if isinstance(url, str) else ""
    return FetchResult(id=job_id, url=shown, status=status, error=str(broken), fetched_at=datetime.now(UTC))


def expired_result(request: FetchRequest, job_id: str, history: AttemptHistory) -> FetchResult:
    """The last attempt's outcome if there was one, EXPIRED otherwise."""
    for attempt in reversed(history.attempts):
        if attempt.status is not FetchStatus.WORKER_LOST:
            return _result(request, job_id, history, attempt.status, attempt.error, http_status=attempt.http_status)
    return _result(request, job_id, history, FetchStatus.EXPIRED, "the deadline passed before the first attempt")


def early_result(
    request: FetchRequest, history: AttemptHistory, job_id: str, *, deadline_passed: bool
) -> FetchResult | None:
    """The result of a job that must not run (again); None: run it."""
    problem = lost_because(request, history)
    if problem is not None:
        return _result(request, job_id, history, FetchStatus.WORKER_LOST, problem)
    return expired_result(request, job_id, history) if deadline_passed else None


def _result(
    request: FetchRequest,
    job_id: str,
    history: AttemptHistory,
    status: FetchStatus,
    error: str | None,
    *,
    http_status: int | None = None,
) -> FetchResult:
    return FetchResult(
        id=job_id,
        url=request.url,
        status=status,
        http_status=http_status,
        attempts=history.attempts,
        error=error,
        fetched_at=datetime.now(UTC),
    )
