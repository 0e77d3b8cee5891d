"""Handles on jobs: their status, their results, and results in the order of completion."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from enum import StrEnum
from typing import Any, Protocol

from fetchq.contract import wire
from fetchq.contract.job_ids import check_id
from fetchq.contract.result import FetchResult
from fetchq.errors import WireError
from fetchq.store.session import Session

from .results import CHECK_BATCH, ResultWaiter


class JobStatus(StrEnum):
    """The state of a job, under arq's names."""

    DEFERRED = "deferred"
    """It is not due yet, or its limit key has no free slot."""
    QUEUED = "queued"
    """It is due and waits for a worker."""
    IN_PROGRESS = "in_progress"
    COMPLETE = "complete"
    """Its result can be read."""
    NOT_FOUND = "not_found"
    """There is no such job, or its result has expired."""


class CancelOutcome(StrEnum):
    """What cancelling a job did."""

    CANCELLED = "cancelled"
    """It was waiting, and is finished now."""
    REQUESTED = "requested"
    """It is running; its worker will cancel it."""
    FINISHED = "finished"
    """It already has a result."""
    NOT_FOUND = "not_found"


class JobClient(Protocol):
    """What a handle uses of the producer that made it."""

    @property
    def results(self) -> ResultWaiter: ...

    async def status(self, job_id: str) -> JobStatus: ...

    async def cancel_many(self, job_ids: Sequence[str]) -> list[CancelOutcome]: ...


class Job:
    """A handle on a job that is not a fetch. Made by a `Producer`, and usable while that is open."""

    __slots__ = ("_client", "id")

    def __init__(self, client: JobClient, job_id: str) -> None:
        self._client = client
        self.id = job_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    async def status(self) -> JobStatus:
        """The job's state now."""
        return await self._client.status(self.id)

    async def cancel(self) -> CancelOutcome:
        """Ends the job: at once if it waits, else as soon as its worker reads the request."""
        return (await self._client.cancel_many([self.id]))[0]

    async def value(self, timeout_s: float | None = None) -> Any:
        """What the job's coroutine returned, as plain values.

        Raises `JobFailed` if it raised, `ResultTimeout` and `JobNotFound` as `FetchJob.result` does.
        """
        return wire.decode_value(wire.decode_stored(await self._client.results.wait(self.id, timeout_s)))


class FetchJob(Job):
    """A handle on a fetch job."""

    __slots__ = ()

    async def result(self, timeout_s: float | None = None) -> FetchResult:
        """The result, as soon as it is stored; a fetch that failed is a result too.

        Raises `ResultTimeout` after `timeout_s` (0 checks once; None waits as long as the job exists), `JobNotFound`
        if there is neither job nor result, and `RedisUnavailable` if Redis was never reached, or is unavailable for
        long or at the end of `timeout_s`.
        """
        stored = await self._client.results.wait(self.id, timeout_s)
        return wire.decode_result(wire.decode_stored(stored), self.id)


async def read_status(session: Session, job_id: str) -> JobStatus:
    """The state of one job of the session's queue."""
    check_id(job_id)
    keys = session.keys
    with session.guarded():
        async with session.redis.pipeline(transaction=True) as pipe:
            pipe.exists(keys.result + job_id)
            pipe.exists(keys.in_progress + job_id)
            pipe.zscore(keys.pending, job_id)
            pipe.time()
            complete, running, score, (seconds, micros) = await pipe.execute()
    if complete:
        return JobStatus.COMPLETE
    if running:
        return JobStatus.IN_PROGRESS
    if score is None:
        return JobStatus.NOT_FOUND
    return JobStatus.DEFERRED if score > seconds * 1000 + micros / 1000 else JobStatus.QUEUED


async def as_completed(
    results: ResultWaiter, jobs: Iterable[FetchJob], timeout_s: float | None
) -> AsyncGenerator[FetchResult, None]:
    """`Producer.as_completed`."""
    ids = list(dict.fromkeys(job.id for job in jobs))
    after = "yet" if timeout_s is None or timeout_s <= 0 else f"after {timeout_s:g} s"
    reader = _Reader()
    awaited = dict.fromkeys(ids, True)
    if timeout_s is None or timeout_s > 0:
        async with aclosing(_completed(results, awaited, timeout_s)) as completed:
            async for job_id, future in completed:
                if (result := reader.read(job_id, future.exception() or future.result())) is not None:
                    yield result
    rest = [job_id for job_id, unseen in awaited.items() if unseen]
    unfinished = len(awaited) - len(rest)
    for start in range(0, len(rest), CHECK_BATCH):
        batch = rest[start : start + CHECK_BATCH]
        if after == "yet":
            found = await results.check(batch)
        else:
            found = await results.check_late(batch, f"{len(awaited)} of {len(ids)} jobs had no result {after}")
        for job_id, stored in zip(batch, found, strict=True):
            if stored is None:
                unfinished += 1
            elif (result := reader.read(job_id, stored)) is not None:
                yield result
    if unfinished:
        raise results.overdue(f"{unfinished} of {len(ids)} jobs had no result {after}")
    if reader.failure is not None:
        raise reader.failure


async def _completed(
    results: ResultWaiter, awaited: dict[str, bool], timeout_s: float | None
) -> AsyncGenerator[tuple[str, asyncio.Future[bytes]], None]:
    """The ids in `awaited` with their futures, in the order of completion, until `timeout_s`.

    Yielded ids are removed from `awaited`; at the end its values say which of the others were never checked.
    """
    done: asyncio.Queue[tuple[str, asyncio.Future[bytes]]] = asyncio.Queue()
    until = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
    futures: dict[str, asyncio.Future[bytes]] = {}
    try:
        for job_id in awaited:
            future = futures[job_id] = results.watch(job_id)
            future.add_done_callback(lambda future, job_id=job_id: done.put_nowait((job_id, future)))  # type: ignore[misc]
        timed_out = False
        while awaited and not timed_out:
            try:
                async with asyncio.timeout_at(until):
                    completed = [await done.get()]
            except TimeoutError:
                timed_out = True
                completed = [(job_id, futures[job_id]) for job_id in awaited if futures[job_id].done()]
                awaited.update({job_id: job_id in results.waits.unseen for job_id in awaited})
            for job_id, future in completed:
                del awaited[job_id]
                results.unwatch(job_id)
                yield job_id, future
    finally:
        for job_id in awaited:
            results.unwatch(job_id)


class _Reader:
    """Decodes stored results, and stores the first failure, to be raised at the end."""

    failure: BaseException | None = None

    def read(self, job_id: str, stored: bytes | BaseException) -> FetchResult | None:
        if isinstance(stored, BaseException):
            self.failure = self.failure or stored
            return None
        try:
            return wire.decode_result(wire.decode_stored(stored), job_id)
        except WireError as problem:
            self.failure = self.failure or problem
            return None
