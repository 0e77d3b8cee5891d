"""A leased job, and the decoding of its payload."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec
from arq.jobs import DeserializationError, Deserializer, deserialize_job_raw
from arq.worker import JobExecutionFailed

from fetchq.contract.wire import decode_plain_job, deserialize
from fetchq_worker.engine.queue.lease import Lease
from fetchq_worker.engine.queue.outcome import Action

from .context import RunContext

MAX_TIME_MS: Final = 1 << 47
"""About the year 6400: later times may not fit into a datetime."""

_UNREADABLE: Final = "deserializing job %s failed"
_SEQUENCE: Final = (tuple, list)
_NUMBER: Final = (int, float)


class Job(msgspec.Struct, eq=False, gc=False):
    """A leased job. Fields after `tries` have defaults if the payload cannot be decoded."""

    lease: Lease
    tries: int
    name: str = "<unknown>"
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    enqueue_time_ms: int = 0
    limit_key: str = ""
    """`_limit_key` of `enqueue_job`; for a fetch, the request has it."""
    ref: str = ""
    """Its name in arq's log lines."""
    traceparent: object = None
    tracestate: object = None
    """The trace context that its sender gave it, not checked."""
    marker_ms: int | None = None
    """As in `Outcome.marker_ms`."""
    run: RunContext | None = None
    """None until its first `ctx` is made."""
    ctx: dict[Any, Any] | None = None
    """What its coroutine and hooks are called with; None if none was called."""
    started: bool = False
    """Its start hook or its coroutine was called, so its end hooks are called too."""
    start_ms: int = 0

    @property
    def wait_s(self) -> float:
        """From the time at which it was due, by Redis's clock, to its start."""
        clock_behind_s = 0.0 if self.run is None else self.run.clock_behind_s
        return max(0.0, self.start_ms / 1000 + clock_behind_s - self.lease.due_ms / 1000)


class Unrunnable(Exception):
    """The job cannot be run and is finished; its cause becomes the result. Never leaves `engine.run`."""

    def __init__(self, job: Job, reason: BaseException, action: Action = Action.FINISH, *, arq_line: str = "") -> None:
        """`arq_line` is arq's log line about it, with a place for the job's id; empty: it is logged already."""
        super().__init__(reason)
        self.arq_line = arq_line
        self.job = job
        self.reason = reason
        self.action = action


class JobDecoder:
    """Decodes the payloads of leases, each once."""

    def __init__(self, deserializer: Deserializer | None) -> None:
        """With None, payloads are pickles, as with arq."""
        self._deserializer = deserializer

    def find_job(self, lease: Lease) -> Job | None:
        """The job of a lease; None for a payload that cannot be decoded."""
        try:
            return self.job_of(lease)
        except Unrunnable:
            return None

    def job_of(self, lease: Lease) -> Job:
        """Raises `Unrunnable`."""
        if lease.job is None:
            try:
                lease.job = self._decode(lease)
            except Unrunnable as problem:
                lease.job = problem
        if isinstance(lease.job, Unrunnable):
            raise lease.job
        job: Job = lease.job
        return job

    def _decode(self, lease: Lease) -> Job:
        job = Job(lease, lease.tries, start_ms=now_ms())
        payload, lease.payload = lease.payload, None  # not kept in memory while the job runs
        if payload is None:
            raise Unrunnable(job, JobExecutionFailed("job expired"), Action.MISSING, arq_line="job %s expired")
        plain = decode_plain_job(payload) if self._deserializer is deserialize else None
        if plain is not None and 0 <= plain.at_ms < MAX_TIME_MS:
            job.name, job.args, job.kwargs = plain.function, plain.args, plain.kwargs  # type: ignore[assignment]
            job.enqueue_time_ms, own_try, job.limit_key = plain.at_ms, plain.tries or 0, plain.limit_key
            job.traceparent, job.tracestate = plain.traceparent, plain.tracestate
        else:
            try:
                decoded = deserialize_job_raw(payload, deserializer=self._deserializer)
                job.name, job.args, job.kwargs, own_try, job.enqueue_time_ms = checked(decoded)
            except DeserializationError as problem:
                raise Unrunnable(job, problem, arq_line=_UNREADABLE) from problem
            except BaseException as problem:  # the deserializer is the user's, and arq passes on what is no Exception
                failure = DeserializationError("unable to deserialize job")
                raise Unrunnable(job, failure, arq_line=_UNREADABLE) from problem
            has_more = b"limit_key" in payload or b"traceparent" in payload
            if has_more and (stored := decode_plain_job(payload)) is not None:
                # What a deserializer of the user's does not report.
                job.limit_key, job.traceparent, job.tracestate = stored.limit_key, stored.traceparent, stored.tracestate
        job.tries = max(job.tries, own_try)
        return job


def checked(decoded: tuple[Any, ...]) -> tuple[str, tuple[Any, ...], dict[str, Any], int, int]:
    """A decoded job whose parts have the types that running it relies on; raises `DeserializationError`."""
    name, args, kwargs, own_try, enqueue_time_ms = decoded
    if (
        isinstance(name, str)
        and isinstance(args, _SEQUENCE)
        and isinstance(kwargs, dict)
        and (own_try is None or isinstance(own_try, int))
        and isinstance(enqueue_time_ms, _NUMBER)
        and 0 <= enqueue_time_ms < MAX_TIME_MS
    ):
        return name, args, kwargs, own_try or 0, enqueue_time_ms  # type: ignore[return-value]  # a list is as good
    raise DeserializationError("unable to deserialize job")


def now_ms() -> int:
    return int(time.time() * 1000)
