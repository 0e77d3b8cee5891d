"""Runs one job: a fetch with canned responses, or a function of the test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol, Self

import msgspec
from redis.asyncio import Redis

from fetchq.contract import wire
from fetchq.contract.request import DEFAULT_RESULT_TTL_S, FetchRequest
from fetchq.contract.result import Attempt, FetchResult
from fetchq.contract.status import FetchStatus
from fetchq.errors import InvalidRequest, NewerWireVersion, WireError
from fetchq.store.keys import Keys
from fetchq.telemetry.ends import FETCH_FIELDS, end_field

from .responses import CannedResponses, UnexpectedJob

Function = Callable[..., Awaitable[Any]]


class NamedFunction(Protocol):
    """A coroutine function under a name, as `arq.worker.func` makes it."""

    name: str
    coroutine: Any


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a coroutine that is not a fetch."""

    job_id: str
    function: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    value: Any = None
    """What it returned."""
    error: BaseException | None = None
    """What it raised."""


class Prepared(NamedTuple):
    """What a test has prepared, and the lists in which requests, results and calls are recorded."""

    keys: Keys
    functions: Mapping[str, Function]
    ctx: Mapping[str, Any]
    responses: CannedResponses
    requests: list[FetchRequest]
    results: list[FetchResult]
    calls: list[Call]


class ClaimedJob(NamedTuple):
    key: bytes
    """The id, as Redis has it."""
    token: str
    payload: bytes | None
    score: float
    tries: int
    cancelled: bool

    @property
    def id(self) -> str:
        return self.key.decode("utf-8", "surrogateescape")


class DecodedJob(NamedTuple):
    """A claimed job with its decoded payload and, for a fetch, its request; an exception for what cannot be decoded."""

    claimed: ClaimedJob
    stored: dict[str, Any] | Exception
    request: FetchRequest | InvalidRequest | NewerWireVersion | None

    @classmethod
    def of(cls, claimed: ClaimedJob) -> Self:
        if claimed.payload is None:
            return cls(claimed, WireError("its payload has expired"), None)
        try:
            stored = wire.deserialize(claimed.payload)
        except WireError as problem:
            return cls(claimed, problem, None)
        if stored["f"] != wire.FETCH_FUNCTION:
            return cls(claimed, stored, None)
        try:
            return cls(claimed, stored, wire.decode_request(stored["a"][0] if stored["a"] else None))
        except (InvalidRequest, NewerWireVersion) as problem:
            return cls(claimed, stored, problem)


class Outcome(NamedTuple):
    """The outcome of a run: an action of `lua/jobs/commit.lua`, and what it stores."""

    action: str
    time_ms: int | None
    result: bytes = b""
    dead_letter: bytes = b""
    figure: str = ""
    """The field that counts the end of the job."""


class Execution:
    """Runs jobs and decides their outcomes."""

    def __init__(self, redis: Redis, prepared: Prepared) -> None:
        self._redis: Final[Any] = redis
        self._prepared: Final = prepared
        self.problems: Final[list[BaseException]] = []
        """Errors that fail the test: unexpected jobs, and exceptions of functions that make responses."""

    async def run(self, job: DecodedJob, *, expired: bool) -> Outcome:
        """`expired`: the job's deadline has passed."""
        if isinstance(job.stored, Exception):
            return self._end_unreadable(job.claimed, job.stored)
        if job.request is None:
            return await self._call(job.claimed, job.stored)
        return await self._fetch(job.claimed, job.stored, job.request, expired=expired)

    def _end_unreadable(self, job: ClaimedJob, problem: Exception) -> Outcome:
        failure = {"type": "DeserializationError", "message": f"unable to deserialize job: {problem}"}
        unread = {"f": "<unknown>", "a": [], "k": {}, "et": round(job.score)}
        action = "missing" if job.payload is None else "finish"
        return self._outcome(job, unread, failure, success=False, action=action, dead=True)

    async def _fetch(self, job: ClaimedJob, stored: dict[str, Any], request: Any, *, expired: bool) -> Outcome:
        if not isinstance(request, FetchRequest):
            status = FetchStatus.INVALID_URL if getattr(request, "field", "") == "url" else FetchStatus.INVALID_JOB
            result = FetchResult(url="", status=status, error=str(request))
        elif job.cancelled:
            result = FetchResult(url=request.url, status=FetchStatus.CANCELLED, error="cancelled on request")
        elif expired:
            error = "the deadline passed before the job could start"
            result = FetchResult(url=request.url, status=FetchStatus.EXPIRED, error=error)
        else:
            result = await self._attempt_all(request)
        result = msgspec.structs.replace(result, id=job.id)
        self._prepared.results.append(result)
        known = request if isinstance(request, FetchRequest) else None
        ttl_s = DEFAULT_RESULT_TTL_S if known is None else known.result_ttl_s
        return self._outcome(job, stored, result, ttl_s=ttl_s, dead=_is_dead(known, result))

    async def _attempt_all(self, request: FetchRequest) -> FetchResult:
        """The result after retries, which are not delayed."""
        attempts: tuple[Attempt, ...] = ()
        while True:
            result = await self._attempt(request)
            assert result.fetched_at is not None
            attempts += (
                Attempt(
                    started_at=result.fetched_at,
                    status=result.status,
                    http_status=result.http_status,
                    error=result.error,
                ),
            )
            if len(attempts) >= request.retry.max_tries or not _may_retry(request, result):
                return msgspec.structs.replace(result, attempts=attempts)

    async def _attempt(self, request: FetchRequest) -> FetchResult:
        self._prepared.requests.append(request)
        seconds, micros = await self._redis.time()
        now = datetime.fromtimestamp(seconds + micros / 1_000_000, UTC)
        try:
            response = await self._prepared.responses.respond_to(request)
            return response.result_for(request, now)
        except Exception as problem:  # noqa: BLE001 - a test's function may raise anything; code that waits must get a result
            self.problems.append(problem)
            return FetchResult(url=request.url, status=FetchStatus.INTERNAL_ERROR, error=str(problem), fetched_at=now)

    async def _call(self, job: ClaimedJob, stored: dict[str, Any]) -> Outcome:
        name, args, kwargs = stored["f"], tuple(stored["a"]), stored["k"]
        function = self._prepared.functions.get(name)
        if function is None:
            known = ", ".join(self._prepared.functions) or "none"
            problem = UnexpectedJob(f"no function {name!r} for job {job.id}. Functions of the test worker: {known}")
            self.problems.append(problem)
            failure = {"type": "JobExecutionFailed", "message": f"function {name!r} not found"}
            return self._outcome(job, stored, failure, success=False, dead=True)
        if job.cancelled:
            return self._outcome(job, stored, asyncio.CancelledError(), success=False)
        ctx = {
            "redis": self._redis,
            **self._prepared.ctx,
            "canned_fetch": self._attempt_all,  # instead of HTTP, for `fetchq_worker.fetch.fetch`
            "job_id": job.id,
            "job_try": job.tries,
            "enqueue_time": datetime.fromtimestamp(stored["et"] / 1000, UTC),
            "score": round(job.score),
        }
        call = Call(job_id=job.id, function=name, args=args, kwargs=kwargs)
        try:
            value = await function(ctx, *args, **kwargs)
        except Exception as problem:  # noqa: BLE001 - any exception is the result of the job
            self._prepared.calls.append(msgspec.structs.replace(call, error=problem))
            if action := _action_to_repeat(problem):
                return Outcome(action, getattr(problem, "defer_score", None) or None)
            return self._outcome(job, stored, problem, success=False, dead=True)
        self._prepared.calls.append(msgspec.structs.replace(call, value=value))
        return self._outcome(job, stored, value)

    def _outcome(
        self,
        job: ClaimedJob,
        stored: Mapping[str, Any],
        value: Any,
        *,
        success: bool = True,
        ttl_s: float = DEFAULT_RESULT_TTL_S,
        action: str = "finish",
        dead: bool = False,
    ) -> Outcome:
        now_ms = time.time_ns() // 1_000_000

        def finished(success: bool, value: Any) -> wire.FinishedJob:
            return wire.FinishedJob(
                job.tries, stored["f"], stored["a"], stored["k"], stored["et"], success, value, now_ms, now_ms,
                self._prepared.keys.queue, job.id,
            )  # fmt: skip

        try:
            result = wire.encode_finished(finished(success, value))
        except (TypeError, ValueError, OverflowError, RecursionError) as problem:
            success, value, dead = False, problem, True
            result = wire.encode_finished(finished(success, value))
        dead_letter = b""
        if dead:
            if isinstance(value, FetchResult):
                value = msgspec.structs.replace(value, headers=(), body=b"", redirects=())
            outcome = {"f": stored["f"], "t": job.tries, "st": now_ms, "ft": now_ms, "s": success, "r": value}
            dead_letter = wire.serialize(outcome)
        figure = FETCH_FIELDS[FetchStatus.INVALID_JOB]
        if success or isinstance(value, BaseException):
            figure = end_field(stored["f"], success=success, value=value)
        return Outcome(action, round(ttl_s * 1000), result if ttl_s else b"", dead_letter, figure)


def _action_to_repeat(problem: Exception) -> str:
    """The action for an exception that puts its job back; empty for any other. By name, since a service has no arq."""
    kinds = {kind.__name__ for kind in type(problem).__mro__ if kind.__module__.startswith(("arq.", "fetchq_worker."))}
    if "Snooze" in kinds:
        return "requeue"
    return "retry" if kinds & {"Retry", "RetryJob"} else ""


def _may_retry(request: FetchRequest, result: FetchResult) -> bool:
    """Whether a worker would retry this result if a try remains."""
    if result.ok or not request.retry.covers(result.status, result.http_status):
        return False
    sent = result.status not in (FetchStatus.DNS_ERROR, FetchStatus.CONNECT_ERROR)
    return request.idempotent or request.retry_non_idempotent or not sent


def _is_dead(request: FetchRequest | None, result: FetchResult) -> bool:
    """Whether a dead letter is stored, as under a worker's default settings."""
    if result.ok or result.status is FetchStatus.CANCELLED:
        return False
    if result.status in (FetchStatus.INVALID_JOB, FetchStatus.INTERNAL_ERROR):
        return True
    return request is not None and request.retry.covers(result.status, result.http_status)
