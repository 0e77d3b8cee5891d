"""Puts jobs on the queue: as far as its capacity allows, and as durably as the write policy asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Final, NamedTuple

from fetchq.contract import wire
from fetchq.contract.job_ids import JobIds, id_for_key
from fetchq.contract.placement import due_of, lane_and_deadline_of, limit_key_of
from fetchq.contract.request import FetchRequest
from fetchq.errors import FetchqError, KeyConflict, NotDurable, QueueFull, RedisFull
from fetchq.store.commands import EnqueuedBatch, JobCommands, NewJob
from fetchq.store.errors import CONNECTION_ERRORS, translated
from fetchq.store.runner import ScriptRunner
from fetchq.store.session import Session

from .backpressure import Capacity, Ticket
from .durability import DurableCalls
from .write_policy import WritePolicy

CALLS_AT_ONCE: Final = 64
"""Concurrent calls, and with them connections: any number of tasks may share a producer."""


class EnqueueReply(NamedTuple):
    """What became of a batch."""

    arrived: int
    """How many of its jobs, from the first, are on the queue or were finished before."""
    existing: Sequence[tuple[int, bytes]]
    """Of these: the place (from 0) of each whose id exists, and the job or the result under that id."""
    problem: FetchqError | asyncio.CancelledError | None
    """Why the others are not on the queue; or why the last ones are not known to be durable."""


class Enqueued(NamedTuple):
    """The ids of a batch's jobs that are on the queue, and why the others are not."""

    ids: list[str]
    problem: FetchqError | asyncio.CancelledError | None


class QueueWriter:
    """Enqueues the jobs of one producer."""

    def __init__(self, session: Session, policy: WritePolicy) -> None:
        self._session: Final = session
        self._ids: Final = JobIds()
        self.capacity: Final = Capacity(session.redis, session.keys, policy)
        self._calls: Final = DurableCalls(session.redis, session.keys, policy)
        self._commands: Final = JobCommands(session.keys)
        self._slots: Final = asyncio.Semaphore(CALLS_AT_ONCE)

    async def aclose(self) -> None:
        """Callers that wait for capacity get a `FetchqError`."""
        await self.capacity.aclose()

    def new_id(self) -> str:
        return self._ids.take(1)[0]

    async def enqueue(self, requests: Sequence[FetchRequest], ticket: Ticket | None = None) -> Enqueued:
        """Enqueues fetches in one round trip. Errors and a cancellation are returned in the reply, not raised.

        Repeating the call is harmless: an id that exists is not added again.
        """
        now_ms = now_in_ms()
        ids = self._ids.take(len(requests))
        jobs: list[NewJob] = []
        for i, request in enumerate(requests):
            if request.key is not None:
                ids[i] = id_for_key(request.key, self._session.keys.queue)
            payload = wire.encode_job(wire.FETCH_FUNCTION, (request,), {}, now_ms)
            jobs.append(NewJob(ids[i], payload, due_of(request), limit_key_of(request), lane_and_deadline_of(request)))
        reply = await self.put(jobs, ticket)
        conflicts = [
            KeyConflict(request.key, ids[place])
            for place, holder in reply.existing
            if (request := requests[place]).key is not None and not _is_same_work(holder, request)
        ]
        if not conflicts or isinstance(reply.problem, asyncio.CancelledError):
            return Enqueued(ids[: reply.arrived], reply.problem)
        if reply.problem is not None:
            conflicts[0].add_note(f"fetchq: the batch was not enqueued as a whole: {reply.problem}")
        refused = {conflict.job_id for conflict in conflicts}
        return Enqueued([job_id for job_id in ids[: reply.arrived] if job_id not in refused], conflicts[0])

    async def put(self, jobs: Sequence[NewJob], ticket: Ticket | None = None) -> EnqueueReply:
        """Enqueues `jobs`. Errors and a cancellation are returned in the reply, not raised.

        A closed or foreign session raises.
        """
        self._session.check()
        existing: list[tuple[int, bytes]] = []
        count = 0
        capacity = self.capacity
        until = capacity.deadline()
        ticket = ticket or capacity.new_ticket()
        try:
            allowed = await capacity.admit(len(jobs), ticket)
            while True:
                try:
                    part = jobs[count : count + allowed]
                    reply, not_durable_reason = await self._call(part, ticket)
                except RedisFull as problem:
                    full: QueueFull | None = problem
                else:
                    existing += ((count + place, holder) for place, holder in reply.existing)
                    done = len(part) if reply.stopped_at is None else reply.stopped_at
                    count += done
                    if done:
                        until = capacity.deadline()
                    if not_durable_reason and done:
                        return EnqueueReply(count, existing, _not_durable(part[:done], not_durable_reason))
                    full = capacity.refusal(reply.reason, reply.measured, reply.limit)
                if count == len(jobs):
                    return EnqueueReply(count, existing, None)
                if full is not None and not capacity.waits:
                    return EnqueueReply(count, existing, full)
                # Without a refusal only as many were sent as there was capacity for: the others wait for more.
                allowed = await capacity.wait(len(jobs) - count, full or capacity.why, until, ticket)
        except (FetchqError, asyncio.CancelledError) as problem:
            return EnqueueReply(count, existing, problem)
        finally:
            capacity.end(ticket)

    async def _call(self, jobs: Sequence[NewJob], ticket: Ticket) -> tuple[EnqueuedBatch, str]:
        max_queued, max_memory = self.capacity.limits()
        session = self._session

        def enqueue(runner: ScriptRunner) -> Awaitable[EnqueuedBatch]:
            return self._commands.enqueue(runner, jobs, max_queued=max_queued, max_memory=max_memory)

        def all_existed(reply: EnqueuedBatch) -> bool:
            return 0 < len(reply.existing) == (len(jobs) if reply.stopped_at is None else reply.stopped_at)

        def on_reply() -> None:
            session.reached = True
            self.capacity.end(ticket)  # not when they are durable: by then the queue has long counted them

        with translated(session.redis):
            async with self._slots:
                try:
                    return await self._calls.call(enqueue, wrote_nothing=all_existed, replied=on_reply)
                except CONNECTION_ERRORS:  # the connection may be a stale one; the ids make a second try safe
                    if session.closed:  # meanwhile: another connection would stay open
                        raise
                    return await self._calls.call(enqueue, wrote_nothing=all_existed, replied=on_reply)


def now_in_ms() -> int:
    """This machine's time, in ms since the epoch."""
    return time.time_ns() // 1_000_000


def _is_same_work(holder: bytes, request: FetchRequest) -> bool:
    """Whether a stored job or result is of the same request."""
    try:
        [held] = wire.deserialize(holder)["a"]
        return wire.decode_request(held).same_work(request)
    except (FetchqError, KeyError, TypeError, ValueError):  # of another version or another client: not the same
        return False


def _not_durable(jobs: Sequence[NewJob], not_durable_reason: str) -> NotDurable:
    ids = tuple(job.id for job in jobs)
    these = f"job {ids[0]} is" if len(ids) == 1 else f"{len(ids)} jobs are"
    return NotDurable(f"{these} on the queue, but not known to be durable: {not_durable_reason}", ids)
