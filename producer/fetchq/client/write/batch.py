"""Batches of `enqueue_many`: a thousand requests or four MiB a round trip. While one is sent, the next is read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from fetchq.contract.placement import check_schedule
from fetchq.contract.request import FetchRequest, build_request
from fetchq.errors import InvalidRequest
from fetchq.tasks import cancel_and_wait

from .writer import Enqueued, QueueWriter

BATCH_JOBS: Final = 1000
BATCH_BYTES: Final = 4 << 20
CANCEL_GRACE_S: Final = 1.0
"""A cancelled `enqueue_many` waits this long for the reply to what it has sent, to report what was enqueued."""
_STEPS_TO_SEND: Final = 12
"""Steps of the event loop in which redis-py takes a connection and writes a command to it."""
_STEPS_TO_READ: Final = 12
"""Steps in which it reads a reply that has arrived."""

JobT = TypeVar("JobT")


class _Batch:
    """Requests of the next round trip."""

    __slots__ = ("requests", "size_bytes")

    def __init__(self) -> None:
        self.requests: list[FetchRequest] = []
        self.size_bytes = 0

    def add(self, request: str | FetchRequest) -> bool:
        """Adds a request and returns whether the batch is full. Raises `InvalidRequest`."""
        made = build_request(request, {})
        check_schedule(made)
        self.requests.append(made)
        self.size_bytes += len(made.url) + len(made.body or b"")
        return len(self.requests) >= BATCH_JOBS or self.size_bytes >= BATCH_BYTES


def batches(requests: Iterable[str | FetchRequest]) -> Iterator[list[FetchRequest]]:
    """The requests in batches, none of them empty. Raises `InvalidRequest`, and whatever the iterable raises."""
    if isinstance(requests, str | FetchRequest):
        raise InvalidRequest("requests", "takes an iterable; for a single request call enqueue()")
    if not isinstance(requests, Iterable):
        raise InvalidRequest("requests", f"takes URLs and requests to iterate over, not {type(requests).__name__}")
    batch = _Batch()
    for request in requests:
        if batch.add(request):
            yield batch.requests
            batch = _Batch()
    if batch.requests:
        yield batch.requests


async def abatches(
    requests: Iterable[str | FetchRequest] | AsyncIterable[str | FetchRequest],
) -> AsyncGenerator[list[FetchRequest], None]:
    """As `batches`; also for an async iterable."""
    if not isinstance(requests, AsyncIterable):
        for full in batches(requests):
            yield full
        return
    batch = _Batch()
    async for request in requests:
        if batch.add(request):
            yield batch.requests
            batch = _Batch()
    if batch.requests:
        yield batch.requests


class BatchPipeline:
    """Enqueues batches in order, one at a time, while the caller makes the next."""

    def __init__(self, writer: QueueWriter, on_enqueued: Callable[[list[str]], None]) -> None:
        """`on_enqueued` is called with the ids of each batch, as soon as its jobs are known to be on the queue."""
        self._writer = writer
        self._on_enqueued = on_enqueued
        self._ticket = writer.capacity.new_ticket()
        self._in_flight: asyncio.Task[Enqueued] | None = None

    async def push(self, batch: Sequence[FetchRequest]) -> None:
        """Waits until the batch in flight is enqueued, then sends this one. Raises the error of the former."""
        await self.finish()
        self._ticket = self._writer.capacity.new_ticket()
        self._in_flight = asyncio.create_task(self._writer.enqueue_batch(batch, self._ticket), name="fetchq-batch")
        for _ in range(_STEPS_TO_SEND):  # so that Redis works while the next batch is made
            await asyncio.sleep(0)

    async def finish(self) -> None:
        """Waits until the batch in flight is enqueued. Raises its error."""
        if (task := self._in_flight) is None:
            return
        await asyncio.wait([task])  # a cancellation of this wait leaves the batch to `stop`
        self._collect(task)

    async def stop(self, problem: BaseException) -> None:
        """Ends the pipeline after `problem`: waits for the batch in flight and reports its jobs.

        After a cancellation it waits at most `CANCEL_GRACE_S`, and not at all for a batch that waits for capacity.
        """
        if (task := self._in_flight) is None:
            return
        try:
            if isinstance(problem, Exception):
                await asyncio.wait([task])
            else:
                self._writer.capacity.abandon(self._ticket)
                with contextlib.suppress(
                    asyncio.CancelledError
                ):  # a second cancellation: `problem` is raised in any case
                    await asyncio.wait([task], timeout=CANCEL_GRACE_S)
                    for _ in range(_STEPS_TO_READ):  # the reply may have come while this process got no CPU time
                        if not task.done():
                            await asyncio.sleep(0)
        finally:
            await cancel_and_wait(task)
        try:
            self._collect(task)
        except Exception as another:  # noqa: BLE001 - reported with the first
            problem.add_note(f"fetchq: the batch in flight failed too: {another}")
        except asyncio.CancelledError:
            pass

    def _collect(self, task: asyncio.Task[Enqueued]) -> None:
        self._in_flight = None
        ids, problem = task.result()
        self._on_enqueued(ids)
        if problem is not None:
            raise problem


def attach_enqueued(problem: BaseException, jobs: Sequence[object]) -> None:
    """Sets `enqueued` on an exception that `enqueue_many` raises, of any class."""
    any_exception: Any = problem
    any_exception.enqueued = tuple(jobs)
    problem.add_note(f"fetchq: {len(jobs)} jobs were put on the queue before this: the exception's `enqueued`")
