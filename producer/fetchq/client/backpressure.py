"""Back-pressure: what a producer does when the queue, or Redis's memory, has no room.

The script that enqueues looks at the room itself, so no two producers pass the limit together. Whoever may wait, waits
here: in the order in which they came, behind one look at a time for all of them.
"""

from __future__ import annotations

import asyncio
import random
from bisect import insort
from collections import deque
from itertools import count as counter
from typing import Any, Final, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from fetchq.errors import FetchqError, QueueFull, RedisFull
from fetchq.store.errors import CONNECTION_ERRORS, place_of, translation
from fetchq.store.keys import Keys

from .write_policy import WhenFull, WritePolicy

SAMPLE_S: Final = 1.0
"""Redis's memory is looked at no more often."""
FIRST_LOOK_S: Final = 0.02
LAST_LOOK_S: Final = 1.0
"""The first look for room comes after the one, and each that finds none doubles it, up to the other."""
_WORTHWHILE: Final = 0.25
"""A batch waits for so much of the queue's limit, for a second at most, rather than go in driblets."""


ErrorT = TypeVar("ErrorT", bound=FetchqError)


class Ticket:
    """The place in the line of one who comes with jobs, for as long as he has any that are not on the queue."""

    __slots__ = ("abandoned", "number", "reserved")

    def __init__(self, number: int) -> None:
        self.number = number
        self.abandoned = False
        self.reserved = 0
        """So many of his jobs were told that there is room, and the queue may not count them yet."""


class _Waiter:
    __slots__ = ("count", "future", "since", "ticket")

    def __init__(self, count: int, ticket: Ticket) -> None:
        loop = asyncio.get_running_loop()
        self.count = count
        self.ticket = ticket
        self.future: asyncio.Future[int] = loop.create_future()
        self.since = loop.time()


class Capacity:
    """The room for one producer's jobs."""

    def __init__(self, redis: Redis, keys: Keys, policy: WritePolicy) -> None:
        self._redis = redis
        self._keys = keys
        self._max_queued: Final = policy.max_queued
        self._max_memory: Final = policy.max_memory
        self.waits: Final = policy.when_full is WhenFull.WAIT
        self.timeout_s: Final = policy.full_timeout_s
        self._waiters: deque[_Waiter] = deque()
        self._numbers = counter()
        self._reserved = 0
        self._spare = 0.0
        """The room that the last look found beyond what was reserved: for those who come while promises are open."""
        self._looking: asyncio.Task[None] | None = None
        self._sampled_at = float("-inf")
        self.why = QueueFull("the queue is full")
        """Why there was no room, at the last look."""
        self._short: RedisFull | None = None
        """The same, where memory was what was short."""
        self._closed = False

    def new_ticket(self) -> Ticket:
        """For one who comes now: he waits behind those who came before. To be given to `end` with each reply."""
        return Ticket(next(self._numbers))

    def abandon(self, ticket: Ticket) -> None:
        """The caller was cancelled: its wait ends now, and it does not wait again."""
        ticket.abandoned = True
        for waiter in self._waiters:
            if waiter.ticket is ticket:
                waiter.future.cancel()

    def end(self, ticket: Ticket) -> None:
        """The jobs that there was room for are on the queue, which counts them, or will not come."""
        self._reserved -= ticket.reserved
        ticket.reserved = 0

    def limits(self) -> tuple[int | None, float | None]:
        """`max_queued` and `max_memory` for the next call. Memory is checked once a second."""
        if self._max_memory is None or not self._is_sample_due():
            return self._max_queued, None
        self._sampled_at = asyncio.get_running_loop().time()
        return self._max_queued, self._max_memory

    def refusal(self, why: str, measured: int, limit: int) -> QueueFull | None:
        """What the script says of the room, as an exception; None where there was enough."""
        if why == "memory":
            self._short = self._short_of(measured, limit)
            return _again(self._short)
        self._short = None
        if not why:
            return None
        return QueueFull(f"the queue {self._keys.queue} holds {measured:,} jobs, and max_queued is {limit:,}")

    async def admit(self, count: int, ticket: Ticket) -> int:
        """How many of `count` jobs may be sent now. Raises `QueueFull` where it is known that none may."""
        if self._short is not None and not self.waits and not self._is_sample_due():
            raise _again(self._short)
        if not self._waiters and (not self._reserved or count <= self._spare):
            self._spare -= count
            return count
        return await self.wait(count, self.why, self.deadline(), ticket)

    def deadline(self) -> float | None:
        """Until when a wait that begins now may last, by the loop's clock."""
        return None if self.timeout_s is None else asyncio.get_running_loop().time() + self.timeout_s

    async def wait(self, count: int, why: QueueFull, until: float | None, ticket: Ticket) -> int:
        """Waits for room for some of `count` jobs; says for how many. Raises `QueueFull` at `until`.

        Seen capacity may be gone again: then the script says so, and the caller waits again in its place. Refusals
        of calls that were under way together come in any order: the line is of those who came.
        """
        self.end(ticket)
        if ticket.abandoned:
            raise asyncio.CancelledError
        if self._closed:
            raise FetchqError("the producer is closed")
        self.why = why
        if isinstance(why, RedisFull):
            self._short = why
        waiter = _Waiter(count, ticket)
        insort(self._waiters, waiter, key=lambda waiter: waiter.ticket.number)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_for_room(), name="fetchq-room")
        try:
            async with asyncio.timeout_at(until):
                return await waiter.future
        except TimeoutError:
            raise _again(self.why) from None
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    async def aclose(self) -> None:
        """Whoever waits gets a `FetchqError`."""
        self._closed = True
        self._fail(FetchqError("the producer was closed while there was no room"))
        looking, self._looking = self._looking, None
        while looking is not None and not looking.done():
            looking.cancel()  # again and again: before Python 3.12 a cancellation can be lost (CPython issue 86296)
            await asyncio.wait([looking], timeout=0.1)

    async def _look_for_room(self) -> None:
        """Looks while anybody waits, and lets those in for whom there is room."""
        look_s = FIRST_LOOK_S
        try:
            while self._waiters:
                await asyncio.sleep(look_s * random.uniform(0.5, 1.0))  # noqa: S311 - so that producers do not look at once
                room = await self._look()
                look_s = FIRST_LOOK_S if self._admit(room) else min(2 * look_s, LAST_LOOK_S)
        except (RedisError, *CONNECTION_ERRORS) as problem:
            self._fail(translation(self._redis, problem))
        except Exception as problem:  # noqa: BLE001 - whoever waits is told of a fault of ours rather than wait for ever
            self._fail(FetchqError(f"the wait for room has broken: {problem!r}"))
        finally:
            if self._looking is asyncio.current_task():
                self._looking = None

    async def _look(self) -> int | None:
        """How many jobs there is room for; None where there is no limit to see."""
        if self._short is not None and self._is_sample_due():
            self._sampled_at = asyncio.get_running_loop().time()
            try:
                memory: dict[str, Any] = await self._redis.info("memory")
            except ResponseError:  # it does not say: the next one in line is to find out
                self._short = None
                return 1 if self._max_queued is None else min(1, await self._queue_room(self._max_queued))
            used, limit = int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0))
            short = limit > 0 and used >= limit * (self._max_memory or 1.0)
            self._short = self._short_of(used, limit) if short else None
        if self._short is not None:
            self.why = self._short
            return 0
        return None if self._max_queued is None else await self._queue_room(self._max_queued)

    async def _queue_room(self, max_queued: int) -> int:
        taken = self._reserved  # before the look, which may be too early for them
        return max(0, max_queued - taken - int(await self._redis.zcard(self._keys.pending)))

    def _admit(self, room: int | None) -> int:
        """Tells those who came first that they may; says how many were told."""
        now = asyncio.get_running_loop().time()
        told = 0
        while self._waiters and room != 0:
            first = self._waiters[0]
            if room is None:
                granted = first.count
            else:
                granted = min(first.count, room)
                worthwhile = min(first.count, (self._max_queued or 1) * _WORTHWHILE)
                if granted < worthwhile and now - first.since < LAST_LOOK_S:
                    break
                room -= granted
            self._waiters.popleft()
            if not first.future.done():  # else its time is up, or it was cancelled
                first.future.set_result(granted)
                first.ticket.reserved = granted
                self._reserved += granted
                told += 1
        self._spare = float("inf") if room is None else room
        return told

    def _is_sample_due(self) -> bool:
        return asyncio.get_running_loop().time() - self._sampled_at >= SAMPLE_S

    def _short_of(self, used: int, limit: int) -> RedisFull:
        share = f"{100 * used / limit:.0f} %" if limit else "more than its share"
        most = 100 * (self._max_memory or 1.0)
        return RedisFull(
            f"Redis at {place_of(self._redis)} is full: it uses {share} of its maxmemory ({limit:,} bytes),"
            f" and nothing is enqueued from {most:g} % on"
        )

    def _fail(self, problem: FetchqError) -> None:
        while self._waiters:
            future = self._waiters.popleft().future
            if not future.done():
                future.set_exception(_again(problem))


def _again(problem: ErrorT) -> ErrorT:
    """The same exception for one more caller: each has jobs of its own to be told of with it."""
    another = type(problem)(*problem.args)
    another.__cause__ = problem.__cause__
    return another
