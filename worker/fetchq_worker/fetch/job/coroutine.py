"""The fetch coroutine: `fetch_data` as a job, and `fetch` awaited in place."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from time import time
from typing import Any, Final, NamedTuple

import msgspec
from arq.worker import Retry

from fetchq import Attempt, FetchRequest, FetchResult, FetchStatus, InvalidRequest, NewerWireVersion
from fetchq.contract.placement import deadline_ms_of
from fetchq.contract.urls import MAX_URL_CHARS
from fetchq.contract.wire import FETCH_FUNCTION, decode_request
from fetchq.store.keys import Keys
from fetchq_worker.engine.run.context import run_context
from fetchq_worker.engine.run.snooze import Snooze
from fetchq_worker.fetch.attempt.attempt import run_attempt
from fetchq_worker.fetch.http.client import Fetcher
from fetchq_worker.fetch.http.phases import Phases
from fetchq_worker.politeness.feedback import Feedback
from fetchq_worker.settings import DeadLetterKind, Settings

from .dead_letter import is_dead, letter_of
from .history import AttemptHistory, HistoryUnavailable, load_history, save_history
from .retry import next_delay_s

logger = logging.getLogger("fetchq.fetch")

MAX_CRASHES: Final = 5
"""How often a job may take its worker down with it before it ends as WORKER_LOST."""
NEWER_VERSION_DEFER_S: Final = 5.0
REDIS_DEFER_S: Final = 5.0

_EXPIRED: Final = "the deadline passed before the first attempt"
_DEFAULT_KEYS: Final = Keys()


async def fetch_data(
    ctx: dict[str, Any], request: FetchRequest | Mapping[str, Any] | None = None, *more: object, **named: object
) -> FetchResult:
    """The job: one run is one attempt, and the result carries all of them.

    It takes one argument; whatever else a client enqueues is an INVALID_JOB, as is a request that breaks the contract.

    Raises `arq.Retry` when another attempt is to follow, and `Snooze` when the job is to go back uncounted: to a
    worker that reads its wire version, or until Redis is there again. Without a job in `ctx` it is `fetch`.
    """
    if "job_id" not in ctx and request is not None and not (more or named):
        return await fetch(ctx, request)
    try:
        found = await _end_or_start(ctx, request, more, named)
        if isinstance(found, _End):
            return _told(ctx, found)
        wanted, record = found
        wanted = _with_idempotency_key(wanted, ctx["job_id"])
        shared: Fetcher | None = ctx.get("fetcher")
        if shared is not None:
            return _kept(ctx, wanted, await _run_once(ctx, shared, wanted, record))
        async with _own_fetcher(ctx) as fetcher:
            return _kept(ctx, wanted, await _run_once(ctx, fetcher, wanted, record))
    except HistoryUnavailable as problem:
        raise _give_back(ctx, REDIS_DEFER_S, str(problem)) from problem
    except asyncio.CancelledError:
        run_context(ctx).uncounted = True  # a worker that stops is no crash of the job's
        raise


async def finish_if_crashed(
    ctx: dict[str, Any], request: FetchRequest | Mapping[str, Any] | None = None, *more: object, **named: object
) -> FetchResult | None:
    """How a job ends that was lost too often to be started again, as `fetch_data` itself would say; None: it is to be
    started.

    For the engine, which asks before it calls a start hook: of a job whose hook kills its worker, nothing else would be
    asked. What breaks the contract leaves no attempt behind: all its starts were lost. Raises `Snooze` where
    `fetch_data` would at once.
    """
    try:
        found = await _end_or_start(ctx, request, more, named)
    except HistoryUnavailable as problem:
        raise _give_back(ctx, REDIS_DEFER_S, str(problem)) from problem
    if not isinstance(found, _End):
        return None
    is_lost = found.request is None or found.result.status is FetchStatus.WORKER_LOST
    return _told(ctx, found) if is_lost else None


class _End(NamedTuple):
    """How a job ends that is not to be run (again)."""

    request: FetchRequest | None
    """None: it breaks the contract."""
    result: FetchResult


async def _end_or_start(
    ctx: dict[str, Any],
    request: FetchRequest | Mapping[str, Any] | None,
    more: Sequence[object],
    named: Mapping[str, object],
) -> _End | tuple[FetchRequest, AttemptHistory]:
    """The end of a job that is not to be run (again), or what it asks for and what is known of its earlier runs.

    Raises `Snooze` for a request of a newer version, and `HistoryUnavailable`.
    """
    if request is None or more or named:
        count = len(more) + len(named) + (request is not None)
        broken = InvalidRequest("request", f"{FETCH_FUNCTION} takes one argument, not {count}")
        return _End(None, refused(ctx.get("job_id", ""), request, broken))
    job_id: str = ctx["job_id"]
    try:
        wanted = decode_request(request)
    except NewerWireVersion as newer:
        raise _give_back(ctx, NEWER_VERSION_DEFER_S, str(newer)) from newer
    except InvalidRequest as broken:
        return _End(None, refused(job_id, request, broken))
    run = run_context(ctx)
    run.result_ttl_s = wanted.result_ttl_s
    record = await _record_of(ctx, wanted)
    deadline_passed = run.deadline_passed or _is_past(wanted, _now(ctx))
    ended = end_unrun(wanted, record, job_id, deadline_passed=deadline_passed)
    return (wanted, record) if ended is None else _End(wanted, ended)


async def fetch(ctx: dict[str, Any], request: FetchRequest | Mapping[str, Any]) -> FetchResult:
    """The fetch awaited directly, outside any job or inside a coroutine of one's own: retries wait in place.

    `ctx["fetcher"]` is the client; without one, a client is made from `FETCHQ_*` for this call. When the request is due
    (`not_before`, `delay_s`) is the caller's affair, as it is the queue's for a job.
    """
    try:
        wanted = decode_request(request)
    except (NewerWireVersion, InvalidRequest) as broken:
        return _finished(ctx, refused("", request, broken))
    wanted = _with_idempotency_key(wanted, uuid.uuid4().hex if wanted.retry_non_idempotent else "")
    if _is_past(wanted, datetime.now(UTC)):
        return _finished(ctx, _ended(wanted, "", AttemptHistory(), FetchStatus.EXPIRED, _EXPIRED))
    shared: Fetcher | None = ctx.get("fetcher")
    if shared is not None:
        return await _run_in_place(ctx, shared, wanted)
    async with _own_fetcher(ctx) as fetcher:
        return await _run_in_place(ctx, fetcher, wanted)


async def _run_in_place(ctx: dict[str, Any], fetcher: Fetcher, request: FetchRequest) -> FetchResult:
    record = AttemptHistory()
    while True:
        phases = Phases()
        result = _with_history(await run_attempt(fetcher, request, phases), record)
        delay_s = _delay_after(fetcher, request, result, phases, datetime.now(UTC))
        if delay_s is None:
            return _finished(ctx, result)
        _retried(result, delay_s)
        record = AttemptHistory(attempts=result.attempts)
        await asyncio.sleep(delay_s)


async def _run_once(
    ctx: dict[str, Any], fetcher: Fetcher, request: FetchRequest, record: AttemptHistory
) -> FetchResult:
    """The job's one attempt; raises `Retry` if another is to follow."""
    job_id: str = ctx["job_id"]
    if record.queued_s is None:
        record = msgspec.structs.replace(record, queued_s=_waited_s(ctx, request))
    feedback: Feedback | None = ctx.get("feedback") if run_context(ctx).limit_key else None
    phases = Phases(
        None if _may_repeat(request) else partial(_mark_sending, ctx, record),
        None if feedback is None else partial(feedback.on_response, request),
    )
    result = await run_attempt(fetcher, request, phases, job_id=job_id, queued_s=record.queued_s)
    crawl_delay_s = None
    if request.robots:
        ctx["crawl_delay_s"] = crawl_delay_s = fetcher.robots.crawl_delay_s(request.url)
    if feedback is not None:
        note = feedback.note_of(request, result, sent=phases.sent, crawl_delay_s=crawl_delay_s)
        run_context(ctx).outcome_note = note
    result = _with_history(result, record)
    delay_s = _delay_after(fetcher, request, result, phases, _now(ctx))
    if delay_s is None:
        return _finished(ctx, result)
    kept = AttemptHistory(attempts=result.attempts, queued_s=record.queued_s)
    await save_history(ctx["redis"], _record_key(ctx), kept)
    _retried(result, delay_s)
    raise Retry(defer=delay_s)


async def _mark_sending(ctx: dict[str, Any], record: AttemptHistory) -> None:
    await save_history(ctx["redis"], _record_key(ctx), msgspec.structs.replace(record, sending=True))


def end_unrun(
    request: FetchRequest, record: AttemptHistory, job_id: str, *, deadline_passed: bool
) -> FetchResult | None:
    """The result of a job that is not to be run (again); None: run it."""
    crashes = len(record.attempts) - record.made
    if record.sending and not _may_repeat(request):
        problem = "its run was cut off after the request may have been sent, and the method is not idempotent"
        return _ended(request, job_id, record, FetchStatus.WORKER_LOST, problem)
    if crashes >= MAX_CRASHES:
        problem = f"its worker went away {crashes} times while running it"
        return _ended(request, job_id, record, FetchStatus.WORKER_LOST, problem)
    if not deadline_passed:
        return None
    if not record.made:
        return _ended(request, job_id, record, FetchStatus.EXPIRED, _EXPIRED)
    last = next(attempt for attempt in reversed(record.attempts) if attempt.status is not FetchStatus.WORKER_LOST)
    return _ended(request, job_id, record, last.status, last.error, http_status=last.http_status)


def refused(job_id: str, request: object, broken: InvalidRequest | NewerWireVersion) -> FetchResult:
    """The result of a request that breaks the contract."""
    url = request.get("url") if isinstance(request, Mapping) else None
    status = FetchStatus.INVALID_JOB
    if isinstance(broken, InvalidRequest) and broken.field == "url" and isinstance(url, str):
        status = FetchStatus.INVALID_URL
    shown = url[:MAX_URL_CHARS].encode("utf-8", "replace").decode() if isinstance(url, str) else ""
    return FetchResult(id=job_id, url=shown, status=status, error=str(broken), fetched_at=datetime.now(UTC))


def _own_fetcher(ctx: dict[str, Any]) -> Fetcher:
    return Fetcher.from_settings(Settings.from_env(), redis=ctx.get("redis"), keys=ctx.get("keys", _DEFAULT_KEYS))


def _record_key(ctx: dict[str, Any]) -> str:
    keys: Keys = ctx.get("keys", _DEFAULT_KEYS)
    key = f"{keys.attempts}{ctx['job_id']}"
    run_context(ctx).extra_keys.append(key)
    return key


async def _record_of(ctx: dict[str, Any], request: FetchRequest) -> AttemptHistory:
    """What is known of earlier runs.

    A first try has nothing to know, and asks nobody; but a run that a stop cut off was not counted as a try, and of a
    request that may not be repeated it left its mark.
    """
    job_try: int = ctx["job_try"]
    if job_try == 1 and _may_repeat(request):
        return AttemptHistory()
    record = await load_history(ctx["redis"], _record_key(ctx))
    return with_losses(record, job_try, datetime.now(UTC))


def with_losses(record: AttemptHistory, job_try: int, now: datetime) -> AttemptHistory:
    """The record with an attempt for each run that left none behind, as its worker went away or was stopped.

    `job_try` counts the runs, this one included.
    """
    missing = max(job_try - 1 - len(record.attempts), 1 if record.sending else 0)
    if missing <= 0:
        return record
    lost = Attempt(started_at=now, status=FetchStatus.WORKER_LOST, error="its run was cut off")
    # A client can claim any number of tries; more crashes than these end the job anyway.
    return msgspec.structs.replace(record, attempts=record.attempts + (lost,) * min(missing, MAX_CRASHES))


def _may_repeat(request: FetchRequest) -> bool:
    return request.idempotent or request.retry_non_idempotent


def _waited_s(ctx: dict[str, Any], request: FetchRequest) -> float | None:
    """From the time at which the job was due, by clocks that may differ.

    That is its score in ms. One that waited in its host's queue has the time of its turn there; of such a job the
    producer's clock and the request tell. What only a stock client knew (`_defer_by`) is then counted as waiting.
    """
    score: float | None = ctx.get("score")
    if score is None:
        return None
    due_s = score / 1000
    enqueued: datetime | None = ctx.get("enqueue_time")
    if run_context(ctx).was_parked and enqueued is not None:
        asked_s = enqueued.timestamp() + request.delay_s
        if request.not_before is not None:
            asked_s = max(asked_s, request.not_before.timestamp())
        due_s = min(due_s, asked_s)
    return max(0.0, time() - due_s)


def _with_idempotency_key(request: FetchRequest, key: str) -> FetchRequest:
    """An unsafe request that may be repeated says with each try that it is the same one.

    Source: draft-ietf-httpapi-idempotency-key-header, "The Idempotency-Key HTTP Request Header Field".
    """
    if request.idempotent or not request.retry_non_idempotent:
        return request
    if any(name.lower() == "idempotency-key" for name, _ in request.headers):
        return request
    return msgspec.structs.replace(request, headers=(*request.headers, ("Idempotency-Key", key)))


def _now(ctx: dict[str, Any]) -> datetime:
    """By Redis's clock, which the engine has heard; without an engine, by this machine's."""
    return datetime.now(UTC) + timedelta(seconds=run_context(ctx).clock_behind_s)


def _is_past(request: FetchRequest, now: datetime) -> bool:
    """To the ms, as the frontier says it."""
    return request.deadline is not None and deadline_ms_of(request.deadline) <= now.timestamp() * 1000


def _with_history(result: FetchResult, record: AttemptHistory) -> FetchResult:
    if not record.attempts:
        return result
    return msgspec.structs.replace(result, attempts=record.attempts + result.attempts)


def _delay_after(
    fetcher: Fetcher, request: FetchRequest, result: FetchResult, phases: Phases, now: datetime
) -> float | None:
    if result.ok:
        return None
    made = AttemptHistory(attempts=result.attempts).made
    return next_delay_s(request, result, made=made, sent=phases.sent, now=now, draw=fetcher.draw())


def _ended(
    request: FetchRequest,
    job_id: str,
    record: AttemptHistory,
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
        attempts=record.attempts,
        error=error,
        fetched_at=datetime.now(UTC),
    )


def _give_back(ctx: dict[str, Any], defer_s: float, why: str) -> Snooze:
    run_context(ctx).uncounted = True
    logger.warning("fetch.snoozed job=%s defer_s=%s: %s", ctx["job_id"], defer_s, why)
    return Snooze(defer_s)


def _retried(result: FetchResult, delay_s: float) -> None:
    if logger.isEnabledFor(logging.INFO):
        logger.info(
            "fetch.retried job=%s url=%s status=%s http_status=%s attempt=%d delay_s=%.3f",
            result.id,
            result.url,
            result.status,
            result.http_status,
            len(result.attempts),
            delay_s,
        )


def _kept(ctx: dict[str, Any], request: FetchRequest | None, result: FetchResult) -> FetchResult:
    """The result; and for a job that failed for good, what the engine is to keep of it."""
    if is_dead(ctx.get("dead_letters", DeadLetterKind.RETRYABLE), request, result):
        run_context(ctx).dead_letter = letter_of(result)
    return result


def _told(ctx: dict[str, Any], end: _End) -> FetchResult:
    return _kept(ctx, end.request, _finished(ctx, end.result))


def _finished(ctx: dict[str, Any], result: FetchResult) -> FetchResult:
    outcomes: Counter[FetchStatus] | None = ctx.get("outcomes")
    if outcomes is not None:
        outcomes[result.status] += 1
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(
            "fetch.finished job=%s url=%s status=%s http_status=%s attempts=%d total_s=%s",
            result.id,
            result.url,
            result.status,
            result.http_status,
            len(result.attempts),
            result.timing.total_s,
        )
    return result
