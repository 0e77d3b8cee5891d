"""The fetch as a coroutine: `fetch_data` as a job, and `fetch` awaited in place."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import msgspec
from arq.worker import Retry

from fetchq import FetchRequest, FetchResult, FetchStatus, InvalidRequest, NewerWireVersion
from fetchq.contract.wire import FETCH_FUNCTION, decode_request
from fetchq.store.keys import Keys
from fetchq_worker.engine.run.context import run_context
from fetchq_worker.fetch.attempt.attempt import run_attempt
from fetchq_worker.fetch.attempt.fetcher import Fetcher
from fetchq_worker.fetch.http.errors import RobotsUnavailable
from fetchq_worker.fetch.http.phases import Phases
from fetchq_worker.politeness.feedback import Feedback
from fetchq_worker.settings import Settings

from .clock import is_past, queued_s, redis_now
from .crashes import with_lost_runs
from .early_end import EarlyEnd, early_result, expired_result, invalid_result
from .history import AttemptHistory, HistoryUnavailable, load_history, save_history
from .report import attempt_ended, finish, finish_early, snooze, with_dead_letter
from .retry import may_repeat, next_delay_s, robots_wait_s, with_idempotency_key

NEWER_VERSION_DEFER_S: Final = 5.0
REDIS_DEFER_S: Final = 5.0

_DEFAULT_KEYS: Final = Keys()
_NO_HISTORY: Final = AttemptHistory()


async def fetch_data(
    ctx: dict[str, Any], request: FetchRequest | Mapping[str, Any] | None = None, *more: object, **named: object
) -> FetchResult:
    """The fetch as a job: one run is one attempt, and the result contains all of them.

    It takes one argument; other arguments end as INVALID_JOB, as does a request that breaks the contract. Raises
    `arq.Retry` if another attempt follows, and `Snooze` if the job goes back to the queue uncounted: for a worker that
    reads its wire version, until Redis replies, or until a robots.txt is requested again. Without a job in `ctx` it
    does what `fetch` does.
    """
    if "job_id" not in ctx and request is not None and not (more or named):
        return await fetch(ctx, request)
    try:
        start = await _start_or_end(ctx, request, more, named)
        if isinstance(start, EarlyEnd):
            return finish_early(ctx, start)
        wanted, history = start
        wanted = with_idempotency_key(wanted, ctx["job_id"])
        shared: Fetcher | None = ctx.get("fetcher")
        if shared is not None:
            return with_dead_letter(ctx, wanted, await _run_once(ctx, shared, wanted, history))
        async with _own_fetcher(ctx) as fetcher:
            return with_dead_letter(ctx, wanted, await _run_once(ctx, fetcher, wanted, history))
    except HistoryUnavailable as problem:
        raise snooze(ctx, REDIS_DEFER_S, str(problem)) from problem
    except asyncio.CancelledError:
        run_context(ctx).uncounted = True  # the worker stops: this is not a crash, and the try is not counted
        raise


async def finish_if_crashed(
    ctx: dict[str, Any], request: FetchRequest | Mapping[str, Any] | None = None, *more: object, **named: object
) -> FetchResult | None:
    """The result of a job whose worker was lost too often, as `fetch_data` would return it; None: run the job.

    The engine calls this before a start hook: if the hook is what kills the worker, `fetch_data` is never reached. An
    invalid request records no attempts, so all of its starts were lost. Raises `Snooze` as `fetch_data` does.
    """
    try:
        start = await _start_or_end(ctx, request, more, named)
    except HistoryUnavailable as problem:
        raise snooze(ctx, REDIS_DEFER_S, str(problem)) from problem
    if not isinstance(start, EarlyEnd):
        return None
    is_lost = start.request is None or start.result.status is FetchStatus.WORKER_LOST
    return finish_early(ctx, start) if is_lost else None


async def fetch(ctx: dict[str, Any], request: FetchRequest | Mapping[str, Any]) -> FetchResult:
    """The fetch awaited directly, outside a job or in a coroutine of your own: retries wait in place.

    `ctx["fetcher"]` is the client; without one, a client is made from `FETCHQ_*` for this call. `not_before` and
    `delay_s` are ignored: for a job, the queue applies them.
    """
    try:
        wanted = decode_request(request)
    except (NewerWireVersion, InvalidRequest) as broken:
        return finish(ctx, None, invalid_result("", request, broken))
    wanted = with_idempotency_key(wanted, uuid.uuid4().hex if wanted.retry_non_idempotent else "")
    if wanted.deadline is not None and is_past(wanted.deadline, datetime.now(UTC)):
        return finish(ctx, wanted, expired_result(wanted, "", _NO_HISTORY))
    canned: Callable[[FetchRequest], Awaitable[FetchResult]] | None = ctx.get("canned_fetch")
    if canned is not None:  # in the tests of a service (`fetchq.testing`)
        return await canned(wanted)
    shared: Fetcher | None = ctx.get("fetcher")
    if shared is not None:
        return await _run_in_place(ctx, shared, wanted)
    async with _own_fetcher(ctx) as fetcher:
        return await _run_in_place(ctx, fetcher, wanted)


async def _start_or_end(
    ctx: dict[str, Any],
    request: FetchRequest | Mapping[str, Any] | None,
    more: Sequence[object],
    named: Mapping[str, object],
) -> EarlyEnd | tuple[FetchRequest, AttemptHistory]:
    """The end of a job that must not run (again), or its request and the history of its earlier runs.

    Raises `Snooze` for a request of a newer version, and `HistoryUnavailable`.
    """
    if request is None or more or named:
        count = len(more) + len(named) + (request is not None)
        broken = InvalidRequest("request", f"{FETCH_FUNCTION} takes one argument, not {count}")
        return EarlyEnd(None, invalid_result(ctx.get("job_id", ""), request, broken))
    job_id: str = ctx["job_id"]
    try:
        wanted = decode_request(request)
    except NewerWireVersion as newer:
        raise snooze(ctx, NEWER_VERSION_DEFER_S, str(newer)) from newer
    except InvalidRequest as broken:
        return EarlyEnd(None, invalid_result(job_id, request, broken))
    run = run_context(ctx)
    run.result_ttl_s = wanted.result_ttl_s
    history = await _history_of(ctx, wanted)
    too_late = run.deadline_passed or (wanted.deadline is not None and is_past(wanted.deadline, redis_now(run)))
    result = early_result(wanted, history, job_id, deadline_passed=too_late)
    return (wanted, history) if result is None else EarlyEnd(wanted, result)


async def _history_of(ctx: dict[str, Any], request: FetchRequest) -> AttemptHistory:
    """The history of the job's earlier runs.

    A first try has none, so it is not read, except for a request that must not be repeated: a run that a stopping
    worker cut off is not counted as a try, and may have sent the request.
    """
    job_try: int = ctx["job_try"]
    if job_try == 1 and may_repeat(request):
        return _NO_HISTORY
    history = await load_history(ctx["redis"], _history_key(ctx))
    return with_lost_runs(history, job_try, datetime.now(UTC))


async def _run_once(
    ctx: dict[str, Any], fetcher: Fetcher, request: FetchRequest, history: AttemptHistory
) -> FetchResult:
    """Makes the attempt of this run. Raises `Retry` if another one follows."""
    job_id: str = ctx["job_id"]
    run = run_context(ctx)
    if history.queued_s is None:
        history = msgspec.structs.replace(history, queued_s=queued_s(ctx, request))
    feedback: Feedback | None = ctx.get("feedback") if run.limit_key else None
    phases = Phases(
        None if may_repeat(request) else partial(_mark_sending, ctx, history),
        None if feedback is None else partial(feedback.on_response, request),
    )
    repeats = bool(history.attempts)
    result = await run_attempt(fetcher, request, phases, job_id=job_id, queued_s=history.queued_s, repeats=repeats)
    unavailable = phases.robots_unavailable
    if unavailable is not None and (wait_s := _wait_for(unavailable, fetcher, request, phases, redis_now(run))):
        raise snooze(ctx, wait_s, str(unavailable), is_routine=True)
    crawl_delay_s = None
    if request.robots:
        ctx["crawl_delay_s"] = crawl_delay_s = fetcher.robots.crawl_delay_s(request.url)
    if feedback is not None:
        run.host_outcome = feedback.host_outcome_of(request, result, sent=phases.sent, crawl_delay_s=crawl_delay_s)
    result = _with_history(result, history)
    delay_s = None if result.ok else _delay_after(fetcher, request, result, phases, redis_now(run))
    attempt_ended(ctx, request, result, phases, delay_s)
    if delay_s is None:
        return finish(ctx, request, result)
    history = AttemptHistory(attempts=result.attempts, queued_s=history.queued_s)
    await save_history(ctx["redis"], _history_key(ctx), history)
    raise Retry(defer=delay_s)


async def _run_in_place(ctx: dict[str, Any], fetcher: Fetcher, request: FetchRequest) -> FetchResult:
    history = _NO_HISTORY
    while True:
        phases = Phases()
        attempt = await run_attempt(fetcher, request, phases, repeats=bool(history.attempts))
        unavailable = phases.robots_unavailable
        if unavailable is not None and (wait_s := _wait_for(unavailable, fetcher, request, phases, datetime.now(UTC))):
            await asyncio.sleep(wait_s)
            continue
        result = _with_history(attempt, history)
        delay_s = None if result.ok else _delay_after(fetcher, request, result, phases, datetime.now(UTC))
        attempt_ended(ctx, request, result, phases, delay_s)
        if delay_s is None:
            return finish(ctx, request, result)
        history = AttemptHistory(attempts=result.attempts)
        await asyncio.sleep(delay_s)


async def _mark_sending(ctx: dict[str, Any], history: AttemptHistory) -> None:
    await save_history(ctx["redis"], _history_key(ctx), msgspec.structs.replace(history, sending=True))


def _with_history(result: FetchResult, history: AttemptHistory) -> FetchResult:
    if not history.attempts:
        return result
    return msgspec.structs.replace(result, attempts=history.attempts + result.attempts)


def _delay_after(
    fetcher: Fetcher, request: FetchRequest, result: FetchResult, phases: Phases, now: datetime
) -> float | None:
    made = AttemptHistory(attempts=result.attempts).made
    return next_delay_s(request, result, made=made, sent=phases.sent, now=now, draw=fetcher.draw())


def _wait_for(
    unavailable: RobotsUnavailable, fetcher: Fetcher, request: FetchRequest, phases: Phases, now: datetime
) -> float | None:
    return robots_wait_s(request, unavailable, sent=phases.sent, now=now, draw=fetcher.draw())


def _history_key(ctx: dict[str, Any]) -> str:
    """The key of the job's history, which the engine removes with the job."""
    key = f"{_keys(ctx).attempts}{ctx['job_id']}"
    run_context(ctx).extra_keys.append(key)
    return key


def _own_fetcher(ctx: dict[str, Any]) -> Fetcher:
    return Fetcher.from_settings(Settings.from_env(), redis=ctx.get("redis"), keys=_keys(ctx))


def _keys(ctx: dict[str, Any]) -> Keys:
    keys: Keys = ctx.get("keys", _DEFAULT_KEYS)
    return keys
