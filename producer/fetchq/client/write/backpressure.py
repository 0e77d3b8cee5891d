"""Back-pressure: what a producer does when the queue, or Redis's memory, is full.

The script that enqueues checks the capacity itself, so producers do not exceed a limit together. Callers that may wait
wait here, in order of arrival, behind one check at a time for all of them. `Line` decides; `Capacity` asks Redis and
wakes the callers.
"""

from __future__ import annotations

import asyncio
import random
from bisect import insort
from enum import Enum
from operator import attrgetter
from typing import Any, Final, TypeVar

from redis.exceptions import RedisError, ResponseError

from fetchq.errors import FetchqError, QueueFull, RedisFull
from fetchq.store.errors import CONNECTION_ERRORS, address_of, translation
from fetchq.store.session import Session
from fetchq.tasks import cancel_and_wait

from .policy import WhenFull, WritePolicy

SAMPLE_S: Final = 1.0
"""Minimum seconds between two checks of Redis's memory."""
FIRST_CHECK_S: Final = 0.02
LAST_CHECK_S: Final = 1.0
"""Seconds before the first check for capacity; each that finds none doubles the interval, up to the last."""
_WORTHWHILE: Final = 0.25
"""A batch waits for this share of `max_queued`, for `LAST_CHECK_S` at most, so that it is not sent in tiny parts."""

ErrorT = TypeVar("ErrorT", bound=FetchqError)


class TicketState(Enum):
    """The state of a caller."""

    IDLE = "idle"
    """It does not wait, and no capacity is reserved for it."""
    WAITING = "waiting"
    """It waits for capacity."""
    ADMITTED = "admitted"
    """Capacity is reserved for `granted` of its jobs, which may not be on the queue yet."""
    ABANDONED = "abandoned"
    """It was cancelled: it does not wait again."""


class Ticket:
    """A caller's position among those waiting for capacity, from its arrival until its jobs are on the queue."""

    __slots__ = ("future", "granted", "number", "since", "state", "wanted")

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = TicketState.IDLE
        self.wanted = 0
        self.granted = 0
        self.since = 0.0
        """When it began to wait."""
        self.future: asyncio.Future[int] | None = None
        """What its caller awaits while it is `WAITING`."""


class Line:
    """Which callers wait for capacity, and which may send. Pure: uses no clock, event loop or Redis."""

    def __init__(self, max_queued: int | None) -> None:
        self._max_queued: Final = max_queued
        self.waiting: list[Ticket] = []
        """In order of arrival."""
        self.reserved = 0
        """Jobs of `ADMITTED` tickets."""
        self._spare = 0.0
        """Capacity that the last check found beyond what was reserved, for callers that arrive meanwhile."""
        self._arrivals = 0

    def new_ticket(self) -> Ticket:
        self._arrivals += 1
        return Ticket(self._arrivals)

    def try_admit(self, count: int) -> bool:
        """Whether a caller that arrives now may send `count` jobs at once. If not, it must `join`."""
        if self.waiting or (self.reserved and count > self._spare):
            return False
        self._spare -= count
        return True

    def join(self, ticket: Ticket, count: int, now: float) -> None:
        """`IDLE` or `ADMITTED` to `WAITING`, at the position that the ticket's number gives."""
        self.release(ticket)
        ticket.state, ticket.wanted, ticket.since = TicketState.WAITING, count, now
        insort(self.waiting, ticket, key=attrgetter("number"))

    def admit(self, free: int | None, now: float) -> list[Ticket]:
        """`WAITING` to `ADMITTED` for the first tickets, for `free` jobs in all (None: no limit)."""
        admitted: list[Ticket] = []
        while self.waiting and free != 0:
            first = self.waiting[0]
            granted = first.wanted
            if free is not None:
                granted = min(granted, free)
                worthwhile = min(first.wanted, (self._max_queued or 1) * _WORTHWHILE)
                if granted < worthwhile and now - first.since < LAST_CHECK_S:
                    break
                free -= granted
            del self.waiting[0]
            first.state, first.granted = TicketState.ADMITTED, granted
            self.reserved += granted
            admitted.append(first)
        self._spare = float("inf") if free is None else free
        return admitted

    def release(self, ticket: Ticket) -> None:
        """To `IDLE`: its jobs are on the queue or will not be sent. An abandoned ticket stays abandoned."""
        if ticket.state is TicketState.WAITING:
            self.waiting.remove(ticket)
        self.reserved -= ticket.granted
        ticket.granted = 0
        if ticket.state is not TicketState.ABANDONED:
            ticket.state = TicketState.IDLE

    def abandon(self, ticket: Ticket) -> None:
        """To `ABANDONED`. Its reserved capacity is kept until its jobs are on the queue."""
        if ticket.state is TicketState.WAITING:
            self.waiting.remove(ticket)
        ticket.state = TicketState.ABANDONED


class Capacity:
    """The free capacity for one producer's jobs."""

    def __init__(self, session: Session, policy: WritePolicy) -> None:
        self._session: Final = session
        self._redis: Final = session.redis
        self._max_queued: Final = policy.max_queued
        self._max_memory: Final = policy.max_memory
        self.waits: Final = policy.when_full is WhenFull.WAIT
        self._timeout_s: Final = policy.full_timeout_s
        self.line: Final = Line(policy.max_queued)
        self._checking: asyncio.Task[None] | None = None
        self._sampled_at = float("-inf")
        self.why = QueueFull("the queue is full")
        """Why there was no capacity, at the last check."""
        self._memory_short: RedisFull | None = None
        """The same, where memory was short."""

    def new_ticket(self) -> Ticket:
        """The position of a caller that arrives now. `end` releases its capacity with each reply."""
        return self.line.new_ticket()

    def end(self, ticket: Ticket) -> None:
        """The admitted jobs are on the queue, or will not be sent."""
        self.line.release(ticket)

    def abandon(self, ticket: Ticket) -> None:
        """The caller was cancelled: its wait ends now, and it does not wait again."""
        self.line.abandon(ticket)
        if ticket.future is not None:
            ticket.future.cancel()

    def limits(self) -> tuple[int | None, float | None]:
        """`max_queued` and `max_memory` for the next call. Memory is checked once a second."""
        if self._max_memory is None or not self._is_sample_due():
            return self._max_queued, None
        self._sampled_at = asyncio.get_running_loop().time()
        return self._max_queued, self._max_memory

    def refusal(self, why: str, measured: int, limit: int) -> QueueFull | None:
        """The script's refusal as an exception; None where there was enough capacity."""
        if why == "memory":
            self._memory_short = self._memory_error(measured, limit)
            return copy_of(self._memory_short)
        self._memory_short = None
        if not why:
            return None
        return QueueFull(f"the queue {self._session.keys.queue} holds {measured:,} jobs, and max_queued is {limit:,}")

    async def admit(self, count: int, ticket: Ticket) -> int:
        """Returns how many of `count` jobs may be sent now. Raises `QueueFull` where none may."""
        if self._memory_short is not None and not self.waits and not self._is_sample_due():
            raise copy_of(self._memory_short)
        if ticket.state is not TicketState.ABANDONED and self.line.try_admit(count):
            return count
        return await self.wait(count, self.why, self.deadline(), ticket)

    def deadline(self) -> float | None:
        """When a wait that begins now ends, by the loop's clock; None: never."""
        return None if self._timeout_s is None else asyncio.get_running_loop().time() + self._timeout_s

    async def wait(self, count: int, why: QueueFull, until: float | None, ticket: Ticket) -> int:
        """Waits for capacity for some of `count` jobs and returns for how many. Raises `QueueFull` at `until`.

        Other producers may use the capacity first: then the script refuses the jobs, and the caller waits again at its
        old position. Refusals of concurrent calls arrive in any order; the line keeps the order of arrival.
        """
        loop = asyncio.get_running_loop()
        if ticket.state is TicketState.ABANDONED:
            raise asyncio.CancelledError
        self._session.check()
        self.line.join(ticket, count, loop.time())
        self.why = why
        if isinstance(why, RedisFull):
            self._memory_short = why
        ticket.future = loop.create_future()
        if self._checking is None:
            self._checking = asyncio.create_task(self._check_while_waiting(), name="fetchq-capacity")
        try:
            async with asyncio.timeout_at(until):
                return await ticket.future
        except TimeoutError:
            raise copy_of(self.why) from None
        finally:
            ticket.future = None
            if ticket.state is TicketState.WAITING:
                self.line.release(ticket)

    async def aclose(self) -> None:
        """Callers that wait get a `FetchqError`."""
        self._fail(FetchqError("the producer was closed while the queue was full"))
        checking, self._checking = self._checking, None
        if checking is not None:
            await cancel_and_wait(checking)

    async def _check_while_waiting(self) -> None:
        """Checks for capacity while callers wait, and admits those that fit."""
        check_s = FIRST_CHECK_S
        loop = asyncio.get_running_loop()
        try:
            while self.line.waiting:
                await asyncio.sleep(check_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the checks of producers
                admitted = self.line.admit(await self._check(), loop.time())
                for ticket in admitted:
                    if ticket.future is not None and not ticket.future.done():  # else it timed out or was cancelled
                        ticket.future.set_result(ticket.granted)
                    else:
                        self.line.release(ticket)
                check_s = FIRST_CHECK_S if admitted else min(2 * check_s, LAST_CHECK_S)
        except (RedisError, *CONNECTION_ERRORS) as problem:
            self._fail(translation(self._redis, problem))
        except Exception as problem:  # noqa: BLE001 - an internal error must end the waits
            self._fail(FetchqError(f"the wait for capacity failed: {problem!r}"))
        finally:
            if self._checking is asyncio.current_task():
                self._checking = None

    async def _check(self) -> int | None:
        """How many jobs there is capacity for; None where no limit is known."""
        if self._memory_short is not None and self._is_sample_due():
            self._sampled_at = asyncio.get_running_loop().time()
            try:
                memory: dict[str, Any] = await self._redis.info("memory")
            except ResponseError:  # INFO is not permitted: the first caller in line tries to enqueue
                self._memory_short = None
                return 1 if self._max_queued is None else min(1, await self._free_slots(self._max_queued))
            used, limit = int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0))
            short = limit > 0 and used >= limit * (self._max_memory or 1.0)
            self._memory_short = self._memory_error(used, limit) if short else None
        if self._memory_short is not None:
            self.why = self._memory_short
            return 0
        return None if self._max_queued is None else await self._free_slots(self._max_queued)

    async def _free_slots(self, max_queued: int) -> int:
        reserved = self.line.reserved  # before the check, which may not count these jobs yet
        return max(0, max_queued - reserved - int(await self._redis.zcard(self._session.keys.pending)))

    def _is_sample_due(self) -> bool:
        return asyncio.get_running_loop().time() - self._sampled_at >= SAMPLE_S

    def _memory_error(self, used: int, limit: int) -> RedisFull:
        share = f"{100 * used / limit:.0f} %" if limit else "more than its share"
        most = 100 * (self._max_memory or 1.0)
        return RedisFull(
            f"Redis at {address_of(self._redis)} is full: it uses {share} of its maxmemory ({limit:,} bytes),"
            f" and nothing is enqueued from {most:g} % on"
        )

    def _fail(self, problem: FetchqError) -> None:
        for ticket in list(self.line.waiting):
            self.line.release(ticket)
            if ticket.future is not None and not ticket.future.done():
                ticket.future.set_exception(copy_of(problem))


def copy_of(problem: ErrorT) -> ErrorT:
    """A copy for another caller, since each exception has its own `enqueued`."""
    another = type(problem)(*problem.args)
    another.__cause__ = problem.__cause__
    return another
