"""One run of a test worker: claims jobs, runs them and commits what became of them, by the scripts of real workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol
from uuid import uuid4

import msgspec
from redis.asyncio import Redis

from fetchq.contract import wire
from fetchq.contract.placement import KEY_PREFIX, deadline_ms_of, limit_key_of
from fetchq.contract.request import DEFAULT_RESULT_TTL_S, FetchRequest
from fetchq.contract.result import Attempt, FetchResult
from fetchq.contract.status import FetchStatus
from fetchq.errors import InvalidRequest, NewerWireVersion, WireError
from fetchq.store.commands import AdmitJob, CommitGroup, JobCommands
from fetchq.store.keys import Keys
from fetchq.store.runner import ClientRunner
from fetchq.tasks import cancel_and_wait

from .responses import CannedResponses, UnexpectedJob

LEASE_MS: Final = 366 * 86_400_000
"""Longer than any test moves the clock: no other worker takes over the jobs of this one."""
CLAIM_COUNT: Final = 64
MAX_CLAIM_BYTES: Final = 16 << 20
DAY_MS: Final = 86_400_000
MAX_DEAD_LETTERS: Final = 10_000

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
    """What a test has prepared, and the lists in which it finds what happened."""

    keys: Keys
    functions: Mapping[str, Function]
    ctx: Mapping[str, Any]
    responses: CannedResponses
    requests: list[FetchRequest]
    results: list[FetchResult]
    calls: list[Call]


class _Claimed(NamedTuple):
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


class _Outcome(NamedTuple):
    """What becomes of a job: an action of `lua/jobs/commit.lua`, and what it stores."""

    action: str
    time_ms: int | None
    result: bytes = b""
    dead_letter: bytes = b""


class QueueRun:
    """Runs jobs in the current event loop, on a client that it closes."""

    def __init__(self, redis: Redis, prepared: Prepared) -> None:
        self._redis: Final[Any] = redis
        self._prepared: Final = prepared
        self._runner: Final = ClientRunner(redis)
        self._commands: Final = JobCommands(prepared.keys)
        self._loop: Final = asyncio.get_running_loop()
        self._look: Final = asyncio.Event()
        """Set when there may be something to do."""
        self._stopping = False
        self._active: Final[set[asyncio.Task[None]]] = set()
        self._problems: Final[list[BaseException]] = []
        """What `run` raises at the end: unexpected jobs, and failures of Redis."""
        self.finished = 0
        """Number of jobs that have ended."""

    def look_again(self) -> None:
        """Looks for due jobs now; callable from any thread."""
        self._loop.call_soon_threadsafe(self._look.set)

    def stop(self) -> None:
        """Ends `run` once no job is due or running; callable from any thread."""
        self._stopping = True
        self.look_again()

    async def run(self) -> None:
        """Runs jobs until `stop`. Raises the first problem at the end."""
        listener = asyncio.create_task(self._listen(), name="fetchq-test-wake")
        try:
            while True:
                self._look.clear()
                next_due_s = await self._start_due()
                if self._stopping and not self._active:
                    break
                await self._wait(next_due_s)
        finally:
            for task in (listener, *self._active):
                await cancel_and_wait(task)
            await self._redis.aclose()
        if self._problems:
            raise self._problems[0]

    async def _listen(self) -> None:
        while True:
            await self._redis.blpop([self._prepared.keys.wake], timeout=0)
            self._look.set()

    async def _wait(self, timeout_s: float | None) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._look.wait()
        except TimeoutError:  # a deferred job is due
            return

    async def _start_due(self) -> float | None:
        """Starts the jobs that are due. Returns the seconds until the next one is."""
        offset = 0
        while True:
            token = f"test.{uuid4().hex}"
            reply = await self._commands.claim(
                self._runner,
                token=token,
                lease_ms=LEASE_MS,
                count=CLAIM_COUNT,
                max_bytes=MAX_CLAIM_BYTES,
                default_life_ms=DAY_MS,
                look_at_aborts=True,
                offset=offset,
            )
            offset = reply.offset
            scores = reply.scores * len(reply.ids) if len(reply.scores) == 1 else reply.scores
            jobs = [
                _Claimed(key, token, payload, float(score), 1, False)
                for key, payload, score in zip(reply.ids, reply.payloads, scores, strict=True)
            ]
            for place, tries, aborted in reply.reported:
                jobs[place] = jobs[place]._replace(tries=tries, cancelled=aborted)
            await self._start(jobs)
            if not reply.more:
                return None if reply.wait_ms is None else reply.wait_ms / 1000

    async def _start(self, jobs: Sequence[_Claimed]) -> None:
        decoded = [(job, *_decode(job)) for job in jobs]
        limited = [
            AdmitJob(job.key, job.token, limit_key, _deadline(job, request), "")
            for job, stored, request in decoded
            if (limit_key := _limit_key(stored, request))
        ]
        refused: set[bytes] = set()
        expired: set[bytes] = set()
        if limited:
            reply = await self._commands.admit(self._runner, limited)
            refused, expired = set(reply.refused), set(reply.deadline_passed)
        for job, stored, request in decoded:
            if job.key not in refused:
                work = self._run_job(job, stored, request, expired=job.key in expired)
                task = self._loop.create_task(work, name=f"fetchq-test-job {job.id}")
                self._active.add(task)
                task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._active.discard(task)
        self._look.set()
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._problems.append(problem)

    async def _run_job(
        self,
        job: _Claimed,
        stored: dict[str, Any] | Exception,
        request: FetchRequest | InvalidRequest | NewerWireVersion | None,
        *,
        expired: bool,
    ) -> None:
        if isinstance(stored, Exception):
            ended = self._end_unreadable(job, stored)
        elif request is None:
            ended = await self._call(job, stored)
        else:
            ended = await self._fetch(job, stored, request, expired=expired)
        outcome = (job.key, ended.result)
        group = CommitGroup(job.token, ended.action, ended.time_ms, None, "", ended.dead_letter, outcome)
        await self._commands.commit(
            self._runner, [group], dead_letter_ttl_ms=30 * DAY_MS, max_dead_letters=MAX_DEAD_LETTERS
        )
        self.finished += ended.action != "retry"

    def _end_unreadable(self, job: _Claimed, problem: Exception) -> _Outcome:
        failure = {"type": "DeserializationError", "message": f"unable to deserialize job: {problem}"}
        unread = {"f": "<unknown>", "a": [], "k": {}, "et": round(job.score)}
        action = "missing" if job.payload is None else "finish"
        return self._outcome(job, unread, failure, success=False, action=action, dead=True)

    async def _fetch(self, job: _Claimed, stored: dict[str, Any], request: Any, *, expired: bool) -> _Outcome:
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
        """The result after retries, which follow at once."""
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
        except UnexpectedJob as problem:
            self._problems.append(problem)
            return FetchResult(url=request.url, status=FetchStatus.INTERNAL_ERROR, error=str(problem), fetched_at=now)
        return response.result_for(request, now)

    async def _call(self, job: _Claimed, stored: dict[str, Any]) -> _Outcome:
        name, args, kwargs = stored["f"], tuple(stored["a"]), stored["k"]
        function = self._prepared.functions.get(name)
        if function is None:
            known = ", ".join(self._prepared.functions) or "none"
            problem = UnexpectedJob(f"no function {name!r} for job {job.id}. Functions of the test worker: {known}")
            self._problems.append(problem)
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
        except Exception as problem:  # noqa: BLE001 - whatever it raises is the job's result
            self._prepared.calls.append(msgspec.structs.replace(call, error=problem))
            if type(problem).__name__ == "Retry" and hasattr(problem, "defer_score"):  # arq.worker.Retry
                return _Outcome("retry", problem.defer_score)
            return self._outcome(job, stored, problem, success=False, dead=True)
        self._prepared.calls.append(msgspec.structs.replace(call, value=value))
        return self._outcome(job, stored, value)

    def _outcome(
        self,
        job: _Claimed,
        stored: Mapping[str, Any],
        value: Any,
        *,
        success: bool = True,
        ttl_s: float = DEFAULT_RESULT_TTL_S,
        action: str = "finish",
        dead: bool = False,
    ) -> _Outcome:
        now_ms = time.time_ns() // 1_000_000

        def finished(success: bool, value: Any) -> wire.FinishedJob:
            return wire.FinishedJob(
                job.tries, stored["f"], stored["a"], stored["k"], stored["et"], success, value, now_ms, now_ms,
                self._prepared.keys.queue, job.id,
            )  # fmt: skip

        try:
            result = wire.encode_finished(finished(success, value))
        except TypeError as problem:
            success, value, dead = False, problem, True
            result = wire.encode_finished(finished(success, value))
        dead_letter = b""
        if dead:
            if isinstance(value, FetchResult):
                value = msgspec.structs.replace(value, headers=(), body=b"", redirects=())
            said = {"f": stored["f"], "t": job.tries, "st": now_ms, "ft": now_ms, "s": success, "r": value}
            dead_letter = wire.serialize(said)
        return _Outcome(action, round(ttl_s * 1000), result if ttl_s else b"", dead_letter)


def _decode(
    job: _Claimed,
) -> tuple[dict[str, Any] | Exception, FetchRequest | InvalidRequest | NewerWireVersion | None]:
    """The job's map, and the request of a fetch; errors in place of what cannot be read."""
    if job.payload is None:
        return WireError("its payload has expired"), None
    try:
        stored = wire.deserialize(job.payload)
    except WireError as problem:
        return problem, None
    if stored["f"] != wire.FETCH_FUNCTION:
        return stored, None
    try:
        return stored, wire.decode_request(stored["a"][0] if stored["a"] else None)
    except (InvalidRequest, NewerWireVersion) as problem:
        return stored, problem


def _limit_key(stored: dict[str, Any] | Exception, request: FetchRequest | Exception | None) -> str:
    if isinstance(request, FetchRequest):
        return limit_key_of(request)
    key = stored.get("limit_key") if isinstance(stored, dict) and request is None else None
    return f"{KEY_PREFIX}{key}" if key else ""


def _deadline(job: _Claimed, request: FetchRequest | Exception | None) -> str | int:
    if job.cancelled:
        return 0  # it starts under no limit, to end at once
    if isinstance(request, FetchRequest) and request.deadline is not None:
        return deadline_ms_of(request.deadline)
    return ""


def _may_retry(request: FetchRequest, result: FetchResult) -> bool:
    """As `fetchq_worker` decides, tries left or not."""
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
