"""Puts jobs on the queue: as far as there is room for them, and as durably as was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from fetchq.errors import FetchqError, NotDurable, QueueFull, RedisFull
from fetchq.store.errors import CONNECTION_ERRORS, translated
from fetchq.store.keys import Keys
from fetchq.store.scripts import load_script

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
    """Calls `lua/enqueue.lua`."""

    def __init__(self, redis: Redis, keys: Keys, policy: WritePolicy) -> None:
        self._redis = redis
        self._room = Capacity(redis, keys, policy)
        self._calls = DurableCalls(redis, keys, policy)
        self._script = load_script(redis, "jobs/enqueue")
        self._under_way = asyncio.Semaphore(CALLS_AT_ONCE)
        self._closed = False

    async def aclose(self) -> None:
        """Whoever waits for room gets a `FetchqError`."""
        self._closed = True
        await self._room.aclose()

    async def put(self, keys: Sequence[str], head: Sequence[Any], jobs: Sequence[Sequence[Any]]) -> EnqueueReply:
        """Puts `jobs` on the queue, each a tuple of the script's arguments with its id first.

        `keys` are the script's, `head` its arguments before the limits. Nothing is raised but what is no business of
        ours: a `EnqueueReply` says how far it came, whatever stopped it.
        """
        existing: list[tuple[int, bytes]] = []
        count = 0
        until = self._room.deadline()
        turn = self._room.new_turn()
        try:
            allowed = await self._room.admit(len(jobs), turn)
            while True:
                try:
                    part = jobs[count : count + allowed]
                    reply, not_durable_reason = await self._call(keys, head, part, turn)
                except RedisFull as problem:
                    full: QueueFull | None = problem
                else:
                    found, stopped, why, measured, limit = reply
                    existing += zip((count + place - 1 for place in found[::2]), found[1::2], strict=True)
                    done = stopped - 1 if stopped else len(part)
                    count += done
                    if done:
                        until = self._room.deadline()
                    if not_durable_reason and done:
                        return EnqueueReply(count, existing, _not_durable(part[:done], not_durable_reason))
                    full = self._room.refusal(why, measured, limit)
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

    async def _call(
        self, keys: Sequence[str], head: Sequence[Any], jobs: Sequence[Sequence[Any]], turn: Ticket
    ) -> tuple[Any, str]:
        args = [*head, *self._room.limits(), *chain.from_iterable(jobs)]

        def found_all(reply: Any) -> bool:
            existing, stopped, *_ = reply
            return 0 < len(existing) // 2 == (stopped - 1 if stopped else len(jobs))

        def counted() -> None:
            self._room.end(turn)  # not when they are durable: by then the queue has long counted them

        with translated(self._redis):
            async with self._under_way:
                try:
                    return await self._calls.call(self._script, keys, args, found=found_all, replied=counted)
                except CONNECTION_ERRORS:  # the connection may be a stale one; the ids make a second try safe
                    if self._closed:  # meanwhile: nobody would close another connection
                        raise
                    return await self._calls.call(self._script, keys, args, found=found_all, replied=counted)


def _not_durable(jobs: Sequence[Sequence[Any]], not_durable_reason: str) -> NotDurable:
    ids = tuple(job[0] for job in jobs)
    these = f"job {ids[0]} is" if len(ids) == 1 else f"{len(ids)} jobs are"
    return NotDurable(f"{these} on the queue, but not known to be durable: {not_durable_reason}", ids)
