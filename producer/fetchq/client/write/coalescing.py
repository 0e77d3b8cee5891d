"""Coalescing: jobs that are enqueued singly while a call is under way share the next call.

A job that arrives while no call is under way is sent at once, by its caller. The others wait for the reply to the call
that is under way, never for a clock. `Coalescer` decides; `SharedCalls` sends and wakes the callers.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from fetchq.errors import FetchqError
from fetchq.store.commands import EnqueuedBatch, NewJob

from .backpressure import Ticket, copy_of

MAX_SHARED_JOBS: Final = 256
MAX_SHARED_BYTES: Final = 1 << 20
"""Bounds of one shared call, which delays the other callers of Redis. A larger job goes alone."""
FLUSH_S: Final = 5.0
"""A producer that closes waits this long for the replies to the calls that are under way."""

Reply = tuple[EnqueuedBatch, str]
"""The outcome of a call, and why its jobs are not known to be durable (empty: they are)."""
Send = Callable[[Sequence[NewJob], Callable[[], None]], Awaitable[Reply]]
"""Sends jobs in one call. The second argument is called when the script has replied; the acknowledgement of replicas or
the disk can take longer."""

_ADDED: Final = EnqueuedBatch([], None, "", 0, 0)


class WaitingJob:
    """A job that waits for the next call, and its caller."""

    __slots__ = ("future", "job", "ticket")

    def __init__(self, job: NewJob, ticket: Ticket, future: asyncio.Future[Reply]) -> None:
        self.job = job
        self.ticket = ticket
        self.future = future
        """What its caller awaits."""


class Coalescer:
    """Which jobs wait for the next call. Pure: uses no event loop and no Redis."""

    def __init__(self) -> None:
        self.is_busy = False
        """A call is under way whose script has not replied."""
        self.waiting: Final[dict[WaitingJob, None]] = {}
        """In order of arrival. Empty unless a call is under way."""

    def try_begin(self) -> bool:
        """Whether a job that arrives now may be sent at once: a call is under way from then on. If not, it must
        `join`."""
        if self.is_busy:
            return False
        self.is_busy = True
        return True

    def join(self, waiting: WaitingJob) -> None:
        self.waiting[waiting] = None

    def leave(self, waiting: WaitingJob) -> None:
        """Its caller was cancelled: the job is not sent, unless its call is under way."""
        self.waiting.pop(waiting, None)

    def abandon(self) -> list[WaitingJob]:
        """Returns the jobs that wait, which are not sent."""
        abandoned = [*self.waiting]
        self.waiting.clear()
        return abandoned

    def end(self) -> bool:
        """The call under way has its reply. Returns whether another follows; if not, no call is under way."""
        self.is_busy = bool(self.waiting)
        return self.is_busy

    def next_call(self) -> list[WaitingJob]:
        """Begins the call that follows. Returns its jobs, in order of arrival; none, if all callers were cancelled: no
        call is under way."""
        batch: list[WaitingJob] = []
        size_bytes = 0
        for one in self.waiting:
            size_bytes += len(one.job.payload)
            if batch and (size_bytes > MAX_SHARED_BYTES or len(batch) == MAX_SHARED_JOBS):
                break
            batch.append(one)
        for one in batch:
            del self.waiting[one]
        self.is_busy = bool(batch)
        return batch


class SharedCalls:
    """Enqueues single jobs, those that arrive during a call together in the next one."""

    def __init__(self, send: Send, on_reply: Callable[[Ticket], None]) -> None:
        """`on_reply` is called for each job when the script has replied."""
        self._send: Final = send
        self._on_reply: Final = on_reply
        self._coalescer: Final = Coalescer()
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._unfinished = 0
        """Calls under way, those included whose jobs wait for replicas or the disk."""
        self._flushed: asyncio.Future[None] | None = None
        """What `aclose` awaits."""

    async def enqueue(self, job: NewJob, ticket: Ticket) -> Reply:
        """As `send` for one job. A cancellation ends the wait of this caller alone."""
        if not self._coalescer.try_begin():
            return await self._wait(job, ticket)
        call = _Call(self, ticket)
        try:
            return await self._send((job,), call.on_reply)
        finally:
            call.finish()

    async def aclose(self) -> None:
        """Waits up to `FLUSH_S` until all jobs are sent and acknowledged. Then the callers of those that are not sent
        get a `FetchqError`."""
        if not self._unfinished:
            return
        if self._flushed is None:
            self._flushed = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._flushed], timeout=FLUSH_S)
        for one in self._coalescer.abandon():
            _fail(one, FetchqError("the producer was closed before the job was sent"))

    async def _wait(self, job: NewJob, ticket: Ticket) -> Reply:
        waiting = WaitingJob(job, ticket, asyncio.get_running_loop().create_future())
        self._coalescer.join(waiting)
        try:
            return await waiting.future
        except asyncio.CancelledError:
            self._coalescer.leave(waiting)
            raise

    def _end(self) -> None:
        """The call under way has its reply, or has failed: sends the next one."""
        if self._coalescer.end():
            # The call belongs to no caller: it must not carry the context variables of the one whose reply came.
            task = asyncio.get_running_loop().create_task(
                self._send_next(_Call(self)), name="fetchq-shared-enqueue", context=contextvars.Context()
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send_next(self, call: _Call) -> None:
        batch: list[WaitingJob] = []
        try:
            await asyncio.sleep(0)  # callers that the last reply wakes may enqueue again before this call
            batch = self._coalescer.next_call()
            if batch:
                call.tickets = [one.ticket for one in batch]
                reply, not_durable_reason = await self._send([one.job for one in batch], call.on_reply)
                for one, outcome in zip(batch, outcomes_of(reply, len(batch)), strict=True):
                    if not one.future.done():  # else its caller was cancelled
                        one.future.set_result((outcome, not_durable_reason))
        except asyncio.CancelledError:  # by code that cancels all tasks, as at the end of an event loop
            for one in batch:
                _fail(one, FetchqError("the call was cancelled, and the job may be on the queue"))
            raise
        except Exception as problem:  # noqa: BLE001 - raised by each of the callers
            for one in batch:
                _fail(one, problem)
        finally:
            call.finish()


class _Call:
    """A call under way. The next one is sent when its script has replied, or when it has failed."""

    __slots__ = ("_has_ended", "_shared", "tickets")

    def __init__(self, shared: SharedCalls, *tickets: Ticket) -> None:
        self._shared = shared
        self._has_ended = False
        self.tickets: Sequence[Ticket] = tickets
        shared._unfinished += 1

    def on_reply(self) -> None:
        """The script has replied."""
        for ticket in self.tickets:
            self._shared._on_reply(ticket)
        self._end()

    def finish(self) -> None:
        """The call has its acknowledgement, or has failed."""
        self._end()
        shared = self._shared
        shared._unfinished -= 1
        if not shared._unfinished and shared._flushed is not None and not shared._flushed.done():
            shared._flushed.set_result(None)

    def _end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._shared._end()


def outcomes_of(reply: EnqueuedBatch, count: int) -> Iterator[EnqueuedBatch]:
    """The reply to a call of `count` jobs, as if each had been sent alone."""
    holders = dict(reply.existing)
    accepted = count if reply.stopped_at is None else reply.stopped_at
    for place in range(count):
        if place in holders:
            yield _ADDED._replace(existing=[(0, holders[place])])
        elif place < accepted:
            yield _ADDED
        else:
            yield reply._replace(existing=[], stopped_at=0)


def _fail(waiting: WaitingJob, problem: Exception) -> None:
    """Ends the wait of one caller. Each gets an exception of its own, since each sets its `enqueued`."""
    if not waiting.future.done():
        waiting.future.set_exception(copy_of(problem) if isinstance(problem, FetchqError) else problem)
