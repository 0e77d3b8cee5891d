"""What a run reports: log events, the count of outcomes, its dead letter, and that its try is not counted.

Events of the logger `fetchq.fetch`: `fetch.finished` (DEBUG), `fetch.retried` (INFO), `fetch.snoozed` (WARNING, and
DEBUG while a robots.txt cannot be had).
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from fetchq import FetchRequest, FetchResult, FetchStatus
from fetchq.logs.text import one_line
from fetchq_worker.engine.run.context import ReportedFailure, run_context
from fetchq_worker.engine.run.snooze import Snooze
from fetchq_worker.settings import DeadLetterKind

from .dead_letter import dead_letter_of, is_dead_letter
from .early_end import EarlyEnd

logger = logging.getLogger("fetchq.fetch")


def finish(ctx: dict[str, Any], result: FetchResult) -> FetchResult:
    """Counts and logs a final result."""
    outcomes: Counter[FetchStatus] | None = ctx.get("outcomes")
    if outcomes is not None:
        outcomes[result.status] += 1
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(
            "fetch.finished job=%s url=%s status=%s http_status=%s attempts=%d total_s=%s",
            result.id,
            one_line(result.url),
            result.status,
            result.http_status,
            len(result.attempts),
            result.timing.total_s,
        )
    return result


def finish_early(ctx: dict[str, Any], end: EarlyEnd) -> FetchResult:
    """Counts and logs the result of a job that is not run."""
    return with_dead_letter(ctx, end.request, finish(ctx, end.result))


def with_dead_letter(ctx: dict[str, Any], request: FetchRequest | None, result: FetchResult) -> FetchResult:
    """The result. If the job failed for good, the engine gets its dead letter, and logs it."""
    if not result.ok and result.status is not FetchStatus.CANCELLED:
        run_context(ctx).failure = ReportedFailure(
            result.status, result.error or "", len(result.attempts), result.final_url or result.url
        )
    if is_dead_letter(ctx.get("dead_letters", DeadLetterKind.RETRYABLE), request, result):
        run_context(ctx).dead_letter = dead_letter_of(result)
    return result


def log_retry(result: FetchResult, delay_s: float) -> None:
    if logger.isEnabledFor(logging.INFO):
        logger.info(
            "fetch.retried job=%s url=%s status=%s http_status=%s attempt=%d delay_s=%.3f",
            result.id,
            one_line(result.url),
            result.status,
            result.http_status,
            len(result.attempts),
            delay_s,
        )


def snooze(ctx: dict[str, Any], defer_s: float, why: str, *, level: int = logging.WARNING) -> Snooze:
    """The exception that puts the job back for `defer_s`, its try not counted."""
    run_context(ctx).uncounted = True
    logger.log(level, "fetch.snoozed job=%s defer_s=%.1f why=%s", ctx["job_id"], defer_s, one_line(why))
    return Snooze(defer_s)
