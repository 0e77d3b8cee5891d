"""Puts jobs on the queue: as far as there is room for them, and as durably as was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final, NamedTuple

from redis.asyncio import Redis

from fetchq.errors import FetchqError, NotDurable, QueueFull, RedisFull
from fetchq.store.commands import EnqueuedBatch, JobCommands, NewJob
from fetchq.store.errors import CONNECTION_ERRORS, translated
from fetchq.store.keys import Keys
from fetchq.store.runner import ScriptRunner

from .backpressure import Capacity, Ticket
from .durability import DurableCalls
from .write_policy import WritePolicy

CALLS_AT_ONCE: Final = 64
"""Calls that are under way at a time, and with them connections: any number of tasks may share a producer."""


class EnqueueReply(NamedTuple):
    """What became of a batch."""

    arrived: int
    """So many of its jobs, from the first, are on the queue or were finished before."""
    existing: Sequence[tuple[int, bytes]]
    """Of these: the place (from 0) of each whose id exists, and the job or the result that holds it."""
    problem: FetchqError | asyncio.CancelledError | None
    """Why the others are not there; or why the last ones are not known to be durable."""


class QueueWriter:
    """Enqueues jobs within the limits of a write policy, as durably as it says."""

    def __init__(self, redis: Redis, keys: Keys, policy: WritePolicy) -> None:
        self._redis = redis
        self._room = Capacity(redis, keys, policy)
        self._calls = DurableCalls(redis, keys, policy)
        self._commands = JobCommands(keys)
        self._under_way = asyncio.Semaphore(CALLS_AT_ONCE)
        self._closed = False

    async def aclose(self) -> None:
        """Whoever waits for room gets a `FetchqError`."""
        self._closed = True
        await self._room.aclose()

    async def put(self, jobs: Sequence[NewJob]) -> EnqueueReply:
        """Puts `jobs` on the queue. Errors are returned in the reply, not raised."""
        existing: list[tuple[int, bytes]] = []
        count = 0
        until = self._room.deadline()
        turn = self._room.new_turn()
        try:
            allowed = await self._room.admit(len(jobs), turn)
            while True:
                try:
                    part = jobs[count : count + allowed]
                    reply, not_durable_reason = await self._call(part, turn)
                except RedisFull as problem:
                    full: QueueFull | None = problem
                else:
                    existing += ((count + place, holder) for place, holder in reply.existing)
                    done = len(part) if reply.stopped_at is None else reply.stopped_at
                    count += done
                    if done:
                        until = self._room.deadline()
                    if not_durable_reason and done:
                        return EnqueueReply(count, existing, _not_durable(part[:done], not_durable_reason))
                    full = self._room.refusal(reply.reason, reply.measured, reply.limit)
                if count == len(jobs):
                    return EnqueueReply(count, existing, None)
                if full is not None and not self._room.waits:
                    return EnqueueReply(count, existing, full)
                # Without a refusal only as many were sent as there was room for: the others wait for more.
                allowed = await self._room.wait(len(jobs) - count, full or self._room.why, until, turn)
        except (FetchqError, asyncio.CancelledError) as problem:
            return EnqueueReply(count, existing, problem)
        finally:
            self._room.end(turn)

    async def _call(self, jobs: Sequence[NewJob], turn: Ticket) -> tuple[EnqueuedBatch, str]:
        max_queued, max_memory = self._room.limits()

        def enqueue(runner: ScriptRunner) -> Awaitable[EnqueuedBatch]:
            return self._commands.enqueue(runner, jobs, max_queued=max_queued, max_memory=max_memory)

        def all_existed(reply: EnqueuedBatch) -> bool:
            return 0 < len(reply.existing) == (len(jobs) if reply.stopped_at is None else reply.stopped_at)

        def counted() -> None:
            self._room.end(turn)  # not when they are durable: by then the queue has long counted them

        with translated(self._redis):
            async with self._under_way:
                try:
                    return await self._calls.call(enqueue, wrote_nothing=all_existed, replied=counted)
                except CONNECTION_ERRORS:  # the connection may be a stale one; the ids make a second try safe
                    if self._closed:  # meanwhile: nobody would close another connection
                        raise
                    return await self._calls.call(enqueue, wrote_nothing=all_existed, replied=counted)


def _not_durable(jobs: Sequence[NewJob], not_durable_reason: str) -> NotDurable:
    ids = tuple(job.id for job in jobs)
    these = f"job {ids[0]} is" if len(ids) == 1 else f"{len(ids)} jobs are"
    return NotDurable(f"{these} on the queue, but not known to be durable: {not_durable_reason}", ids)
