"""Puts jobs on the queue: as far as its capacity allows, and as durably as the write policy asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from fetchq.contract import wire
from fetchq.contract.job_ids import JobIds, id_for_key
from fetchq.contract.placement import lane_and_deadline_of, limit_key_of
from fetchq.contract.request import FetchRequest
from fetchq.contract.schedule import due_of
from fetchq.errors import FetchqError, KeyConflict, NotDurable, QueueFull, RedisFull
from fetchq.store.errors import CONNECTION_ERRORS, translated
from fetchq.store.scripts import load_script
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
        self._script: Final = load_script(session.redis, "jobs/enqueue")
        self._slots: Final = asyncio.Semaphore(CALLS_AT_ONCE)
        keys = session.keys
        self._redis_keys: Final = (keys.pending, keys.wake, *keys.frontier)
        self._head: Final = (keys.job, keys.result, "", keys.waiting)

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
        jobs: list[tuple[str | bytes, ...]] = []
        for i, request in enumerate(requests):
            if request.key is not None:
                ids[i] = id_for_key(request.key, self._session.keys.queue)
            payload = wire.encode_job(wire.FETCH_FUNCTION, (request,), {}, now_ms)
            jobs.append((ids[i], payload, due_of(request), limit_key_of(request), lane_and_deadline_of(request)))
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

    async def put(self, jobs: Sequence[Sequence[Any]], ticket: Ticket | None = None) -> EnqueueReply:
        """Enqueues `jobs`, each a tuple of the script's arguments with its id first.

        Errors and a cancellation are returned in the reply, not raised. A closed or foreign session raises.
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
                    found, stopped, why, measured, limit = reply
                    existing += zip((count + place - 1 for place in found[::2]), found[1::2], strict=True)
                    done = stopped - 1 if stopped else len(part)
                    count += done
                    if done:
                        until = capacity.deadline()
                    if not_durable_reason and done:
                        return EnqueueReply(count, existing, _not_durable(part[:done], not_durable_reason))
                    full = capacity.refusal(why, measured, limit)
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

    async def _call(self, jobs: Sequence[Sequence[Any]], ticket: Ticket) -> tuple[Any, str]:
        args = [*self._head, *self.capacity.limits(), *chain.from_iterable(jobs)]

        def found_all(reply: Any) -> bool:
            existing, stopped, *_ = reply
            return 0 < len(existing) // 2 == (stopped - 1 if stopped else len(jobs))

        def on_reply() -> None:
            self._session.reached = True
            self.capacity.end(ticket)  # not when they are durable: by then the queue has long counted them

        session = self._session
        with translated(session.redis):
            async with self._slots:
                try:
                    return await self._calls.call(
                        self._script, self._redis_keys, args, found=found_all, replied=on_reply
                    )
                except CONNECTION_ERRORS:  # the connection may be a stale one; the ids make a second try safe
                    if session.closed:  # meanwhile: another connection would stay open
                        raise
                    return await self._calls.call(
                        self._script, self._redis_keys, args, found=found_all, replied=on_reply
                    )


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


def _not_durable(jobs: Sequence[Sequence[Any]], not_durable_reason: str) -> NotDurable:
    ids = tuple(job[0] for job in jobs)
    these = f"job {ids[0]} is" if len(ids) == 1 else f"{len(ids)} jobs are"
    return NotDurable(f"{these} on the queue, but not known to be durable: {not_durable_reason}", ids)
