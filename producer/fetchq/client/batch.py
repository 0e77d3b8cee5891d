"""What one round trip of `enqueue_many` carries: a thousand requests, or four MiB of them, whichever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from fetchq.contract.placement import check_schedule
from fetchq.contract.request import FetchRequest, build_request
from fetchq.errors import FetchqError, InvalidRequest

if TYPE_CHECKING:
    from fetchq.sync.producer import SyncFetchJob

    from .handles import FetchJob

BATCH_JOBS: Final = 1000
BATCH_BYTES: Final = 4 << 20


class _Batch:
    """Requests that wait for their round trip."""

    __slots__ = ("requests", "size_bytes")

    def __init__(self) -> None:
        self.requests: list[FetchRequest] = []
        self.size_bytes = 0

    def add(self, request: str | FetchRequest) -> bool:
        """Whether it is full now. Raises `InvalidRequest`."""
        made = build_request(request, {})
        check_schedule(made)
        self.requests.append(made)
        self.size_bytes += len(made.url) + len(made.body or b"")
        return len(self.requests) >= BATCH_JOBS or self.size_bytes >= BATCH_BYTES


def batches(requests: Iterable[str | FetchRequest]) -> Iterator[list[FetchRequest]]:
    """The requests in batches, none of them empty. Raises `InvalidRequest`, and whatever the iterable raises."""
    if isinstance(requests, str | FetchRequest):
        raise InvalidRequest("requests", "takes many; one alone goes to enqueue()")
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
    """`batches`, of an async iterable too."""
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


def attach_enqueued(problem: BaseException, jobs: Sequence[FetchJob | SyncFetchJob]) -> None:
    """Lets an error out of `enqueue_many`, whoever's it is, say what was put on the queue before it."""
    told: Any = problem  # a foreign exception takes the attribute too
    told.enqueued = tuple(jobs)
    problem.add_note(f"fetchq: {len(jobs)} jobs were put on the queue before this: the exception's `enqueued`")


def jobs_of(
    outcome: list[FetchJob] | BaseException, problem: BaseException | None = None
) -> Sequence[FetchJob | SyncFetchJob]:
    """The jobs that one batch put on the queue, even where it failed; `problem`, which struck before, is told."""
    if not isinstance(outcome, BaseException):
        return outcome
    if problem is not None and isinstance(outcome, Exception):
        problem.add_note(f"fetchq: the batch under way failed too: {outcome}")
    if isinstance(outcome, FetchqError | asyncio.CancelledError):  # a cancellation takes the attribute too
        return getattr(outcome, "enqueued", ())
    return ()
