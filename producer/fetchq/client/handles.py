"""A handle on one job."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from fetchq.contract import wire
from fetchq.contract.result import FetchResult

if TYPE_CHECKING:
    from .producer import Producer


class JobStatus(StrEnum):
    """Where a job stands; the words are arq's."""

    DEFERRED = "deferred"
    """It waits for its time."""
    QUEUED = "queued"
    """It is due and waits for a worker."""
    IN_PROGRESS = "in_progress"
    COMPLETE = "complete"
    """Its result can be read."""
    NOT_FOUND = "not_found"
    """There was no such job, or its result is past its time."""


class CancelOutcome(StrEnum):
    """What came of asking for a job's end."""

    CANCELLED = "cancelled"
    """It was waiting, and is finished now."""
    REQUESTED = "requested"
    """It is running; its worker was asked to stop it."""
    FINISHED = "finished"
    """Too late: it has a result."""
    NOT_FOUND = "not_found"


class Job:
    """A job by its id: of a coroutine that is not a fetch. Made by a `Producer`, and good as long as it is open."""

    __slots__ = ("_producer", "id")

    def __init__(self, producer: Producer, job_id: str) -> None:
        self._producer = producer
        self.id = job_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    async def status(self) -> JobStatus:
        """Where the job stands now."""
        return await self._producer.status(self.id)

    async def cancel(self) -> CancelOutcome:
        """Ends the job: at once if it waits, else as soon as its worker hears of it."""
        return (await self._producer.cancel_many([self.id]))[0]

    async def value(self, timeout_s: float | None = None) -> Any:
        """What the job's coroutine returned, as plain values.

        Raises `JobFailed` if it raised, `ResultTimeout` and `JobNotFound` as `FetchJob.result` does.
        """
        return wire.decode_value(wire.decode_stored(await self._producer.results.wait(self.id, timeout_s)))


class FetchJob(Job):
    """A fetch by its id."""

    __slots__ = ()

    async def result(self, timeout_s: float | None = None) -> FetchResult:
        """The result, as soon as it is there; a fetch that failed is a result too.

        Raises `ResultTimeout` after `timeout_s` (0 looks once; None waits for as long as the job exists), `JobNotFound`
        if there is neither job nor result, and `RedisUnavailable` if Redis was never there, stays away, or is away at
        the end of `timeout_s`.
        """
        stored = await self._producer.results.wait(self.id, timeout_s)
        return wire.decode_result(wire.decode_stored(stored), self.id)
