"""What happens in a worker, as typed events. docs/observability.md has a table of them.

Log lines, traces and the subscribers of users are made from these. An event that occurs for each job or attempt is only
made while somebody subscribes. No event contains a header, a body or a query.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, get_args

import msgspec

from fetchq import Attempt, FetchStatus, Timing


class JobEnd(StrEnum):
    """How a job ended."""

    OK = "ok"
    """It succeeded. A fetch did if its status is OK or NOT_MODIFIED."""
    FAILED = "failed"
    """For good: no other try follows."""
    CANCELLED = "cancelled"
    """A client requested it."""


class RequeueReason(StrEnum):
    """Why a run ended without an outcome, its try not counted."""

    SHUTDOWN = "shutdown"
    """The worker stops."""
    NOT_STARTED = "not_started"
    """The run was cancelled, or interrupted, before its coroutine was called."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened. Times are seconds; points in time, seconds since the epoch by this machine's clock."""


class WorkerStarted(Event, frozen=True, kw_only=True):
    """Redis is reached, `on_startup` has returned, and the worker begins to claim jobs."""

    worker: str
    queue: str
    concurrency: int
    redis: str
    """The address, without its password."""


class WorkerStopped(Event, frozen=True, kw_only=True):
    """The worker has ended its runs and committed or requeued their jobs; `on_shutdown` is called next."""

    worker: str
    complete: int
    failed: int
    retried: int


class RedisUnavailable(Event, frozen=True, kw_only=True):
    """Calls of a running worker to Redis fail; they are repeated."""

    error: str
    refused: bool
    """Redis answers, and refuses, as for missing rights."""


class RedisAvailable(Event, frozen=True, kw_only=True):
    """Calls succeed again."""


class JobEvent(Event, frozen=True, kw_only=True):
    """One of the events in the life of a job, published in the task that runs it."""

    job_id: str
    function: str
    """As the job names it: for a job that cannot be run, any text from outside."""
    tries: int
    """The number of this run, from 1."""
    limit_key: str
    """The key under whose limits the job runs; empty: none."""


class JobStarted(JobEvent, frozen=True, kw_only=True):
    """The coroutine, or the start hook before it, is about to be called. Context variables set now are seen there."""

    lane: str
    """`high`, `default` or `low`."""
    enqueued_at: float
    started_at: float
    wait_s: float
    """Since the job was due. For a job that waited in its host's queue: since it left that, if it is a later try or the
    worker has no metrics."""


class RunEvent(JobEvent, frozen=True, kw_only=True):
    """A run has ended."""

    started_at: float
    """When the run began; for a job that was not run, about when it ended."""
    run_s: float


class JobEnded(RunEvent, frozen=True, kw_only=True):
    """A job has its result, which the next commit stores."""

    end: JobEnd
    status: str
    """For a fetch its `FetchStatus`, as `fetchq_fetches_total` counts it. INVALID_JOB for a job that cannot be decoded
    or names an unknown function. For another one that raised the type of its exception, else empty."""
    error: str
    """A sentence, or the message of the exception; empty: none."""
    exception: BaseException | None
    """What the coroutine or its start hook raised, or why the job could not be run."""
    ran: bool
    """Whether the job's code was called: if not, `exception` has no traceback of it."""
    dead_letter: bool
    """Whether the job becomes a dead letter."""
    attempts: int
    """Of a fetch that failed, with lost workers; otherwise the same as `tries`."""
    url: str
    """Of a fetch that failed, after its redirects, in the form of `AttemptEnded.url`; otherwise empty."""


class JobRetried(RunEvent, frozen=True, kw_only=True):
    """Another run follows, and this one counts as a try."""

    delay_s: float
    exception: BaseException
    """The `Retry` or `RetryJob` that was raised."""


class JobSnoozed(RunEvent, frozen=True, kw_only=True):
    """The job goes back to the queue, and the try is not counted."""

    delay_s: float
    why: str
    """As the coroutine told it, in a sentence; may be empty."""
    is_routine: bool
    """Nothing is wrong with the worker or its Redis."""


class JobRequeued(JobEvent, frozen=True, kw_only=True):
    """The run ended without an outcome; the job goes back to the queue, and the try is not counted."""

    reason: RequeueReason


class LeaseLost(Event, frozen=True, kw_only=True):
    """Another worker holds the job, or will: its run here ends, and its outcome does not count."""

    job_id: str
    token: str
    """The fencing token that is no longer valid."""


class FetchEvent(Event, frozen=True, kw_only=True):
    """One of the events in the life of a fetch: of a job, or of a `fetch` that a coroutine awaits."""

    job_id: str
    """Empty for a fetch without a job."""
    method: str
    url: str
    """Without user name, query and fragment; `?...` takes the place of the last two."""
    host: str
    tags: tuple[str, ...]
    """Those of the request."""


class AttemptEnded(FetchEvent, frozen=True, kw_only=True):
    """An attempt has an outcome. An attempt that was cut off, and one that waits for a robots.txt, have none."""

    number: int
    """From 1, lost workers included."""
    attempt: Attempt
    timing: Timing
    """`queued_s` is that of the first attempt."""
    final_url: str
    """After redirects, in the form of `url`; empty without a response."""
    redirects: int
    body_size: int
    """Decoded bytes."""
    from_cache: bool
    """The HTTP cache answered."""
    reused: bool
    """Whether the last hop used a connection that was open already."""
    retry_in_s: float | None
    """When the next attempt follows; None: this is the last."""


class FetchEnded(FetchEvent, frozen=True, kw_only=True):
    """A fetch has its result, perhaps without any attempt."""

    status: FetchStatus
    http_status: int | None
    attempts: int
    total_s: float | None
    """The duration of the last attempt; None without one."""
    error: str
    """A sentence; empty for a success."""


class HostCooledDown(Event, frozen=True, kw_only=True):
    """A response asked for fewer requests, so no job of the limit key starts for a while, on any worker."""

    limit_key: str
    for_s: float
    asked: bool
    """Whether the server said for how long."""
    began: bool
    """False: a cooldown is under way already, and may have become longer."""


class CircuitOpened(Event, frozen=True, kw_only=True):
    """Connections to the host of a limit key failed several times, so no job of it starts for a while."""

    limit_key: str
    failures: int
    """In succession."""
    for_s: float


AnyEvent = (
    WorkerStarted
    | WorkerStopped
    | RedisUnavailable
    | RedisAvailable
    | JobStarted
    | JobEnded
    | JobRetried
    | JobSnoozed
    | JobRequeued
    | LeaseLost
    | AttemptEnded
    | FetchEnded
    | HostCooledDown
    | CircuitOpened
)
EVENTS: Final[tuple[type[Event], ...]] = get_args(AnyEvent)
"""All of them."""
