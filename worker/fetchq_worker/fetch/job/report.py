"""What a run reports: events, the count of outcomes, its dead letter, and that its try is not counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fetchq import FetchRequest, FetchResult, FetchStatus
from fetchq.contract.urls import host_of
from fetchq.contract.wire import FETCH_FUNCTION
from fetchq.logs.text import one_line, public_url, refused_url
from fetchq_worker.engine.run.context import ReportedFailure, run_context
from fetchq_worker.engine.run.snooze import Snooze
from fetchq_worker.fetch.http.phases import Phases
from fetchq_worker.settings import DeadLetterKind
from fetchq_worker.telemetry.events import AttemptEnded, FetchEnded, JobSnoozed
from fetchq_worker.telemetry.telemetry import telemetry_of

from .dead_letter import dead_letter_of, is_dead_letter
from .early_end import EarlyEnd


def attempt_ended(
    ctx: dict[str, Any], request: FetchRequest, result: FetchResult, phases: Phases, delay_s: float | None
) -> None:
    """Measures and publishes the last attempt of `result`; another follows after `delay_s`. None: it is the last."""
    telemetry = telemetry_of(ctx)
    if telemetry.measures is not None:
        telemetry.measures.attempt_ended(result, phases)
    events, traces = telemetry.events, telemetry.traces
    is_traced = traces is not None and traces.wants_attempt()
    if not (is_traced or events.wanted or (delay_s is not None and events.log.shows_attempts)):
        return
    event = AttemptEnded(
        job_id=result.id,
        method=request.method,
        url=public_url(result.url),
        host=host_of(request.url),
        tags=request.tags,
        number=len(result.attempts),
        attempt=result.attempts[-1],
        timing=result.timing,
        final_url="" if result.final_url is None else public_url(result.final_url),
        redirects=len(result.redirects),
        body_size=result.body_size,
        from_cache=result.from_cache,
        reused=phases.reused,
        retry_in_s=delay_s,
    )
    events.publish(event)
    if traces is not None and is_traced:
        traces.add_attempt(event)


def finish(ctx: dict[str, Any], request: FetchRequest | None, result: FetchResult) -> FetchResult:
    """Counts and publishes a final result. `request` is None if it is invalid."""
    outcomes: Counter[FetchStatus] | None = ctx.get("outcomes")
    if outcomes is not None:
        outcomes[result.status] += 1
    events = telemetry_of(ctx).events
    if events.wanted or events.log.shows_fetches:
        event = FetchEnded(
            job_id=result.id,
            method="" if request is None else request.method,
            url=refused_url(result.url) if request is None else public_url(result.url),
            host="" if request is None else host_of(request.url),
            tags=() if request is None else request.tags,
            status=result.status,
            http_status=result.http_status,
            attempts=len(result.attempts),
            total_s=result.timing.total_s,
            error="" if result.error is None else one_line(result.error),
        )
        events.publish(event)
    return result


def finish_early(ctx: dict[str, Any], end: EarlyEnd) -> FetchResult:
    """Counts and publishes the result of a job that is not run."""
    return with_dead_letter(ctx, end.request, finish(ctx, end.request, end.result))


def with_dead_letter(ctx: dict[str, Any], request: FetchRequest | None, result: FetchResult) -> FetchResult:
    """The result. If the job failed for good, the engine gets its failure and its dead letter."""
    if not result.ok and result.status is not FetchStatus.CANCELLED:
        url = refused_url(result.url) if request is None else result.final_url or result.url
        failure = ReportedFailure(result.error or "", len(result.attempts), url)
        run_context(ctx).failure = failure
    if is_dead_letter(ctx.get("dead_letters", DeadLetterKind.RETRYABLE), request, result):
        run_context(ctx).dead_letter = dead_letter_of(result)
    return result


def snooze(ctx: dict[str, Any], defer_s: float, why: str, *, is_routine: bool = False) -> Snooze:
    """The exception that puts the job back for `defer_s`, its try not counted."""
    run = run_context(ctx)
    run.uncounted = True
    if not run.lease_token:  # under the stock `arq` command; the engine publishes it elsewhere
        telemetry_of(ctx).events.publish(
            JobSnoozed(
                job_id=ctx["job_id"],
                function=FETCH_FUNCTION,
                tries=ctx["job_try"],
                limit_key="",
                started_at=0.0,
                run_s=0.0,
                delay_s=defer_s,
                why=why,
                is_routine=is_routine,
            )
        )
    return Snooze(defer_s, why, is_routine=is_routine)
