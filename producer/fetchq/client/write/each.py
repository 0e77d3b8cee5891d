"""Many requests, each enqueued on its own: the outcome of one does not affect the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from fetchq.contract.request import FetchRequest
from fetchq.errors import FetchqError, InvalidRequest, QueueFull, RedisUnavailable
from fetchq.tasks import cancel_and_wait

from .backpressure import copy_of
from .batch import BATCH_BYTES, BATCH_JOBS, attach_enqueued

JobT = TypeVar("JobT")
Enqueue = Callable[[str | FetchRequest], Coroutine[Any, Any, JobT]]


async def enqueue_each(
    enqueue: Enqueue[JobT], requests: Iterable[str | FetchRequest], *, waits: bool
) -> list[JobT | FetchqError]:
    """The result of `enqueue` for each request, or the error that it raised, in the same order.

    A thousand are enqueued at the same time. The rest is not sent once Redis is unavailable or, where `waits` is true,
    once a wait for capacity has timed out, since each of them would wait as long: it gets the same error.

    The `enqueued` of a cancellation holds the jobs that are known to be on the queue.
    """
    outcomes: list[JobT | FetchqError] = []
    reason: FetchqError | None = None
    for group in _groups(requests):
        if reason is not None:
            outcomes += (copy_of(reason) for _ in group)
            continue
        tasks = [asyncio.create_task(_outcome(enqueue(request))) for request in group]
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as problem:
            outcomes += await _cancel_all(tasks)
            attach_enqueued(problem, [one for one in outcomes if not isinstance(one, FetchqError)])
            raise
        ended = [task.result() for task in tasks]
        outcomes += ended
        reasons = (one for one in ended if isinstance(one, FetchqError) and _ends_the_call(one, waits=waits))
        reason = next(reasons, None)
    return outcomes


def _groups(requests: Iterable[str | FetchRequest]) -> Iterator[list[str | FetchRequest]]:
    """The requests that are enqueued at the same time. All are read first: an error of the iterable is raised before
    anything is sent."""
    if isinstance(requests, str | FetchRequest) or not isinstance(requests, Iterable):
        raise InvalidRequest("requests", f"takes URLs and requests to iterate over, not {type(requests).__name__}")
    group: list[str | FetchRequest] = []
    size_bytes = 0
    for request in list(requests):
        group.append(request)
        size_bytes += len(request.body or b"") if isinstance(request, FetchRequest) else 0
        if len(group) == BATCH_JOBS or size_bytes >= BATCH_BYTES:
            yield group
            group, size_bytes = [], 0
    if group:
        yield group


async def _outcome(enqueueing: Coroutine[Any, Any, JobT]) -> JobT | FetchqError:
    try:
        return await enqueueing
    except FetchqError as problem:
        return problem


async def _cancel_all(tasks: Sequence[asyncio.Task[JobT]]) -> list[JobT]:
    """The results of the tasks that had ended."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        await cancel_and_wait(task)
    return [task.result() for task in tasks if not task.cancelled() and task.exception() is None]


def _ends_the_call(outcome: FetchqError, *, waits: bool) -> bool:
    return isinstance(outcome, RedisUnavailable) or (waits and isinstance(outcome, QueueFull))
