"""Puts jobs on the queue: as far as its capacity allows, and as durably as the write policy asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from secrets import token_urlsafe
from typing import Any, Final, NamedTuple

import msgspec
from redis.exceptions import ReadOnlyError

from fetchq.contract import wire
from fetchq.contract.job_ids import JobIds, check_id, id_for_key
from fetchq.contract.placement import KEY_PREFIX, due_of, lane_and_deadline_of, lane_of, limit_key_of
from fetchq.contract.priority import Priority
from fetchq.contract.request import MAX_WAIT_S, FetchRequest
from fetchq.contract.validation import check_limit_key, check_seconds, check_whole
from fetchq.errors import FetchqError, InvalidRequest, KeyConflict, NotDurable, QueueFull, RedisFull
from fetchq.store.commands import EnqueuedBatch, JobCommands, NewJob
from fetchq.store.errors import CONNECTION_ERRORS, address_of, translated
from fetchq.store.keys import check_queue
from fetchq.store.runner import ScriptRunner
from fetchq.store.session import Session
from fetchq.telemetry.traces import NO_FIELDS, SendSpans

from .backpressure import Capacity, Ticket
from .coalescing import Reply, SharedCalls
from .durability import DurableCalls
from .policy import WritePolicy

MAX_EXPIRES_S: Final = 10 * 366 * 86_400.0
MAX_JOB_TRY: Final = 1_000_000
CALLS_AT_ONCE: Final = 64
"""Concurrent calls, and with them connections: any number of tasks may share a producer."""


class EnqueueReply(NamedTuple):
    """The outcome of a batch."""

    arrived: int
    """How many of its jobs, counted from the first, are on the queue or were finished before."""
    existing: Sequence[tuple[int, bytes]]
    """Of these, each whose id existed: its place in the batch from 0, and the payload or result under that id."""
    problem: FetchqError | asyncio.CancelledError | None
    """Why the other jobs are not on the queue, or why the last ones are not known to be durable."""


class Enqueued(NamedTuple):
    """The ids of a batch's jobs that are on the queue, and why the others are not."""

    ids: list[str]
    problem: FetchqError | asyncio.CancelledError | None


class JobOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `enqueue_job`: arq's six, `priority` and `limit_key`. In a call their names begin with `_`."""

    job_id: str | None = None
    queue_name: str | None = None
    defer_until: datetime | None = None
    defer_by: float | timedelta | None = None
    expires: float | timedelta | None = None
    job_try: int | None = None
    priority: Priority | str = Priority.DEFAULT
    limit_key: str | None = None

    @classmethod
    def pop_from(cls, kwargs: dict[str, Any]) -> JobOptions:
        """Removes the options (names that begin with `_`) from the arguments of a call. Raises `InvalidRequest`."""
        given = {name[1:]: kwargs.pop(name) for name in [name for name in kwargs if name.startswith("_")]}
        for name in given:
            if name not in cls.__struct_fields__:
                known = ", ".join(f"_{field}" for field in cls.__struct_fields__)
                raise InvalidRequest(f"_{name}", f"is not an option of enqueue_job, which takes {known}")
        options = cls(**given)
        options._check()
        return options

    def _check(self) -> None:
        if self.job_id is not None:
            check_id(self.job_id)
        if self.queue_name is not None:
            check_queue(self.queue_name)
        if self.defer_until is not None and not isinstance(self.defer_until, datetime):
            raise InvalidRequest("_defer_until", f"takes a datetime, not {type(self.defer_until).__name__}")
        if self.defer_until is not None and self.defer_by is not None:
            raise InvalidRequest("_defer_until", "is not used together with _defer_by")
        if self.defer_by is not None:
            check_seconds("_defer_by", _seconds(self.defer_by), 0, MAX_WAIT_S)
        if self.defer_until is not None:
            check_seconds("_defer_until", max(0.0, _timestamp(self.defer_until) - time.time()), 0, MAX_WAIT_S)
        if self.expires is not None:
            check_seconds("_expires", _seconds(self.expires), 0.001, MAX_EXPIRES_S)
        if self.job_try is not None:
            check_whole("_job_try", self.job_try, 1, MAX_JOB_TRY)
        if self.priority not in tuple(Priority):
            raise InvalidRequest("_priority", f"takes high, default or low, not {self.priority!r}")
        if self.limit_key is not None:
            check_limit_key("_limit_key", self.limit_key)

    def job(
        self,
        function: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        job_id: str,
        trace: Mapping[str, str] = NO_FIELDS,
    ) -> NewJob:
        """The job with these options. Raises `InvalidRequest` for an argument that cannot be encoded.

        `trace` are the fields of its trace context.
        """
        if not isinstance(function, str) or not function:
            raise InvalidRequest("function", f"takes the name of a function, not {function!r}")
        priority = Priority(self.priority)
        more = {
            "limit_key": self.limit_key,
            "priority": "" if priority is Priority.DEFAULT else priority.value,
            # Two equal calls in one ms have different payloads, as `QueueWriter.enqueue_job` relies on.
            "nonce": token_urlsafe(6) if self.job_id else "",
        }
        try:
            payload = wire.encode_job(
                function, args, kwargs, now_in_ms(), self.job_try, **{name: v for name, v in more.items() if v}, **trace
            )
        except (TypeError, ValueError, OverflowError, RecursionError) as problem:
            raise InvalidRequest("arguments", str(problem)) from problem
        due = ""
        if self.defer_by:
            due = f"+{_ms(self.defer_by)}"
        elif self.defer_until is not None:
            due = str(max(0, round(_timestamp(self.defer_until) * 1000)))
        limit_key = "" if self.limit_key is None else f"{KEY_PREFIX}{self.limit_key}"
        ttl = "" if self.expires is None else f"~{_ms(self.expires)}"
        return NewJob(job_id, payload, due, limit_key, lane_of(priority) + ttl)


class QueueWriter:
    """Enqueues the jobs of one producer."""

    def __init__(self, session: Session, policy: WritePolicy) -> None:
        self._session: Final = session
        self._ids: Final = JobIds()
        self.capacity: Final = Capacity(session, policy)
        self._calls: Final = DurableCalls(session.redis, session.keys, policy)
        self._commands: Final = JobCommands(session.keys)
        self._slots: Final = asyncio.Semaphore(CALLS_AT_ONCE)
        self._shared: Final = SharedCalls(self._send, self.capacity.end)
        self._spans: Final = SendSpans(queue=session.keys.pending, redis=address_of(session.redis))

    async def aclose(self) -> None:
        """Callers that wait for capacity get a `FetchqError`; jobs of other callers are sent."""
        await self.capacity.aclose()
        await self._shared.aclose()

    def new_id(self) -> str:
        return self._ids.new_id()

    async def enqueue_job(self, make: Callable[[Mapping[str, str]], NewJob]) -> Enqueued:
        """Enqueues one job. If another job, or its result, has the id, `ids` is empty and there is no problem.

        `make` is called once, with the fields of the job's trace context. Raises what it raises.
        """
        span = self._spans.start()
        if span is None:
            return await self._enqueue_job(make(NO_FIELDS))
        with span:
            job = make(span.fields)
            span.set_job(job.id)
            enqueued = await self._enqueue_job(job)
            span.set_problem(enqueued.problem)
            return enqueued

    async def _enqueue_job(self, job: NewJob) -> Enqueued:
        reply = await self._put_one(job)
        # If a broken connection had enqueued it, the second call finds the same payload.
        is_other = any(holder != job.payload for _, holder in reply.existing)
        return Enqueued([job.id] if reply.arrived and not is_other else [], reply.problem)

    async def enqueue(self, request: FetchRequest) -> Enqueued:
        """Enqueues a fetch, in one call with others that arrive at the same time.

        Errors and a cancellation are returned in the reply, not raised.
        """
        span = self._spans.start()
        if span is None:
            return await self._enqueue(request, NO_FIELDS)
        with span:
            enqueued = await self._enqueue(request, span.fields)
            for job_id in enqueued.ids:
                span.set_job(job_id)
            span.set_problem(enqueued.problem)
            return enqueued

    async def _enqueue(self, request: FetchRequest, trace: Mapping[str, str]) -> Enqueued:
        job = self._job_of(request, self._ids.new_id(), now_in_ms(), trace)
        return self._enqueued((job,), (request,), await self._put_one(job))

    async def enqueue_batch(self, requests: Sequence[FetchRequest], ticket: Ticket) -> Enqueued:
        """Enqueues fetches in one round trip. Errors and a cancellation are returned in the reply, not raised."""
        span = self._spans.start(len(requests))
        if span is None:
            return await self._enqueue_batch(requests, ticket, NO_FIELDS)
        with span:
            enqueued = await self._enqueue_batch(requests, ticket, span.fields)
            span.set_problem(enqueued.problem)
            return enqueued

    async def _enqueue_batch(
        self, requests: Sequence[FetchRequest], ticket: Ticket, trace: Mapping[str, str]
    ) -> Enqueued:
        """Repeating the call is harmless: an id that exists is not added again."""
        now_ms = now_in_ms()
        ids = self._ids.new_ids(len(requests))
        jobs = [self._job_of(request, job_id, now_ms, trace) for request, job_id in zip(requests, ids, strict=True)]
        return self._enqueued(jobs, requests, await self.put(jobs, ticket))

    def _job_of(self, request: FetchRequest, job_id: str, now_ms: int, trace: Mapping[str, str]) -> NewJob:
        if request.key is not None:
            job_id = id_for_key(request.key, self._session.keys.queue)
        payload = wire.encode_job(wire.FETCH_FUNCTION, (request,), {}, now_ms, None, **trace)
        return NewJob(job_id, payload, due_of(request), limit_key_of(request), lane_and_deadline_of(request))

    def _enqueued(self, jobs: Sequence[NewJob], requests: Sequence[FetchRequest], reply: EnqueueReply) -> Enqueued:
        conflicts = [
            KeyConflict(request.key, jobs[place].id)
            for place, holder in reply.existing
            if (request := requests[place]).key is not None and not _is_same_work(holder, request)
        ]
        arrived = [job.id for job in jobs[: reply.arrived]]
        if not conflicts or isinstance(reply.problem, asyncio.CancelledError):
            return Enqueued(arrived, reply.problem)
        if reply.problem is not None:
            conflicts[0].add_note(f"fetchq: the batch was not enqueued as a whole: {reply.problem}")
        refused = {conflict.job_id for conflict in conflicts}
        return Enqueued([job_id for job_id in arrived if job_id not in refused], conflicts[0])

    async def put(self, jobs: Sequence[NewJob], ticket: Ticket | None = None) -> EnqueueReply:
        """Enqueues jobs in one call, or several where they wait for capacity. Errors and a cancellation are returned in
        the reply, not raised. A closed or foreign session raises."""
        return await self._put(jobs, ticket or self.capacity.new_ticket(), self._put_batch)

    async def _put_one(self, job: NewJob) -> EnqueueReply:
        return await self._put((job,), self.capacity.new_ticket(), self._put_shared)

    async def _put(
        self, jobs: Sequence[NewJob], ticket: Ticket, call: Callable[[Sequence[NewJob], Ticket], Awaitable[Reply]]
    ) -> EnqueueReply:
        self._session.check()
        existing: list[tuple[int, bytes]] = []
        count = 0
        capacity = self.capacity
        until = capacity.deadline()
        try:
            allowed = await capacity.admit(len(jobs), ticket)
            while True:
                try:
                    part = jobs[count : count + allowed]
                    reply, not_durable_reason = await call(part, ticket)
                except RedisFull as problem:
                    full: QueueFull | None = problem
                else:
                    accepted = len(part) if reply.stopped_at is None else reply.stopped_at
                    existing += ((count + place, holder) for place, holder in reply.existing if place < accepted)
                    count += accepted
                    if accepted:
                        until = capacity.deadline()
                    if not_durable_reason and accepted:
                        return EnqueueReply(count, existing, _not_durable(part[:accepted], not_durable_reason))
                    full = capacity.refusal(reply.reason, reply.measured, reply.limit)
                if count == len(jobs):
                    return EnqueueReply(count, existing, None)
                if full is not None and not capacity.waits:
                    return EnqueueReply(count, existing, full)
                # Without a refusal, only the admitted jobs were sent: the others wait for more capacity.
                allowed = await capacity.wait(len(jobs) - count, full or capacity.why, until, ticket)
        except (FetchqError, asyncio.CancelledError) as problem:
            return EnqueueReply(count, existing, problem)
        finally:
            capacity.end(ticket)

    def _put_shared(self, jobs: Sequence[NewJob], ticket: Ticket) -> Awaitable[Reply]:
        return self._shared.enqueue(jobs[0], ticket)

    def _put_batch(self, jobs: Sequence[NewJob], ticket: Ticket) -> Awaitable[Reply]:
        return self._send(jobs, lambda: self.capacity.end(ticket))

    async def _send(self, jobs: Sequence[NewJob], replied: Callable[[], None]) -> Reply:
        """Enqueues jobs in one call. `replied` is called when the script has replied."""
        max_queued, max_memory = self.capacity.limits()
        session = self._session

        def enqueue(runner: ScriptRunner) -> Awaitable[EnqueuedBatch]:
            return self._commands.enqueue(runner, jobs, max_queued=max_queued, max_memory=max_memory)

        def wrote_nothing(reply: EnqueuedBatch) -> bool:
            accepted = len(jobs) if reply.stopped_at is None else reply.stopped_at
            return bool(reply.existing) and sum(place < accepted for place, _ in reply.existing) == accepted

        def on_reply() -> None:
            session.reached = True
            replied()  # not only when they are durable: the queue counts them already

        with translated(session.redis):
            async with self._slots:
                try:
                    return await self._calls.call(enqueue, wrote_nothing=wrote_nothing, replied=on_reply)
                # A pooled connection may have been closed, or lead to a former master. The ids make a second call safe.
                except (*CONNECTION_ERRORS, ReadOnlyError):
                    if session.closed:  # closed meanwhile: a new connection would stay open
                        raise
                    return await self._calls.call(enqueue, wrote_nothing=wrote_nothing, replied=on_reply)


def _timestamp(moment: datetime) -> float:
    """Seconds since the epoch. Raises `InvalidRequest` for a local time that is outside the years of a datetime."""
    try:
        return moment.timestamp()
    except (ValueError, OverflowError) as problem:
        raise InvalidRequest("_defer_until", f"is out of range: {moment}") from problem


def _seconds(duration: float | timedelta) -> float:
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


def _ms(duration: float | timedelta) -> int:
    return round(_seconds(duration) * 1000)


def now_in_ms() -> int:
    """This machine's time, in ms since the epoch."""
    return time.time_ns() // 1_000_000


def _is_same_work(holder: bytes, request: FetchRequest) -> bool:
    """Whether a stored payload or result belongs to an equal request."""
    try:
        [held] = wire.deserialize(holder)["a"]
        return wire.decode_request(held).same_work(request)
    except (FetchqError, KeyError, TypeError, ValueError):  # of another version or client: counts as different
        return False


def _not_durable(jobs: Sequence[NewJob], not_durable_reason: str) -> NotDurable:
    ids = tuple(job.id for job in jobs)
    these = f"job {ids[0]} is" if len(ids) == 1 else f"{len(ids)} jobs are"
    return NotDurable(f"{these} on the queue, but not known to be durable: {not_durable_reason}", ids)
