"""Running one job: from its lease to its outcome."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import arq.worker
import msgspec
from arq.cron import CronJob
from arq.jobs import DeserializationError, deserialize_job_raw, serialize_result
from arq.typing import StartupShutdown
from arq.utils import args_to_string, ms_to_datetime, truncate
from arq.worker import Function, JobExecutionFailed, Retry, RetryJob

from fetchq.contract.wire import FinishedJob, decode_plain_job, deserialize, encode_finished, serialize
from fetchq.store.engine_scripts import REDIS_ERRORS
from fetchq_worker.engine.queue.commit import Action, Outcome
from fetchq_worker.engine.queue.lease import Lease

from .context import KEY, RunContext
from .crash_policy import CountsOwnAttempts
from .snooze import Snooze
from .timeouts import Timeouts

if TYPE_CHECKING:
    from fetchq_worker.engine.worker import Worker

logger = logging.getLogger("arq.worker")
"""arq's own, with arq's own lines: whoever watches those finds them unchanged."""

MAX_RESULT_BYTES: Final = 256 << 20
"""Redis refuses values from 512 MB, by closing the connection on everything else that is sent with them."""
RETRY_TTL_S: Final = 88400
MAX_TTL_MS: Final = 1 << 52
END_OF_TIME_MS: Final = 1 << 47
"""Some 4000 years: datetime goes no further."""

_SEQUENCE: Final = (tuple, list)
_NUMBER: Final = (int, float)


class Job(msgspec.Struct, eq=False, gc=False):
    """A leased job, as far as it has been understood."""

    lease: Lease
    tries: int
    name: str = "<unknown>"
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    enqueue_time_ms: int = 0
    ref: str = ""
    """What the log calls it."""
    marker_ms: int | None = None
    run: RunContext | None = None
    """None until its first `ctx` is made."""
    ctx: dict[Any, Any] | None = None
    """What its coroutine and hooks are given; None if none was called."""
    begun: bool = False
    """Its start hook was called, or its coroutine: the hooks that belong to its end are, too."""
    start_ms: int = 0


class Unrunnable(Exception):
    """The job cannot be run, and is finished by that; its cause becomes the result. Never leaves this module."""

    def __init__(self, job: Job, reason: BaseException, action: Action = Action.FINISH) -> None:
        super().__init__(reason)
        self.job = job
        self.reason = reason
        self.action = action


class FinishedEarly(Exception):
    """The job's function has said, before any hook was called, what becomes of it. Never leaves this module."""

    def __init__(self, outcome: Outcome | None) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        """None: the job is another owner's by now."""


class Runner:
    """Runs the jobs of one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._timeouts = Timeouts(worker.loop)

    async def run(self, lease: Lease) -> None:
        """A job's journey. What became of it is with the committer when this returns."""
        worker = self._worker
        try:
            try:
                job = self._decoded(lease)
                if lease.limit_later and not await worker.admit_late(lease):
                    return
                function = self._resolve(job)
                if job.tries != lease.tries:
                    await self._count_try(job)
                if job.tries > 1 and isinstance(function, CountsOwnAttempts):
                    await self._check_crashes(job, function)
                outcome = await self._perform(job, function)
                if worker.on_job_end is not None:
                    await self._call_hook(worker.on_job_end, job)
            except FinishedEarly as end:
                outcome = end.outcome
            except Unrunnable as problem:
                job = problem.job
                outcome = self._refuse(job, problem.reason, problem.action)
            except asyncio.CancelledError:  # stopped before the coroutine had control: no run, and no try
                if not lease.lost:
                    worker.committer.add(Outcome(lease, Action.RELEASE))
                raise
            if outcome is not None:
                if lease.limit_key and job.run is not None:
                    outcome.note = job.run.outcome_note
                worker.committer.add(outcome, now=worker.running_count <= 1)
                if worker.after_job_end is not None:
                    await self._wait_committed(outcome)
                    await self._call_hook(worker.after_job_end, job)
        finally:
            lease.job = None  # they know each other, and no collector looks at them
            worker.on_run_end(lease)

    def call_of(self, lease: Lease) -> tuple[str, Sequence[Any]] | None:
        """The function and the arguments of a job, aborted or not; None for one that cannot be read."""
        try:
            job = self._decoded(lease)
        except Unrunnable:
            return None
        return job.name, job.args

    def _decoded(self, lease: Lease) -> Job:
        """What the job says of itself, decoded once; raises `Unrunnable`."""
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
        """What the job says of itself; raises `Unrunnable`."""
        job = Job(lease, lease.tries, start_ms=_now_ms())
        payload, lease.payload = lease.payload, None  # it need not be in memory twice while the job runs
        if payload is None:
            logger.warning("job %s expired", lease.id)
            raise Unrunnable(job, JobExecutionFailed("job expired"), Action.MISSING)
        plain = decode_plain_job(payload) if self._worker.job_deserializer is deserialize else None
        if plain is not None and 0 <= plain.at_ms < END_OF_TIME_MS:
            job.name, job.args, job.kwargs = plain.function, plain.args, plain.kwargs  # type: ignore[assignment]
            job.enqueue_time_ms, own_try = plain.at_ms, plain.tries or 0
        else:
            try:
                decoded = deserialize_job_raw(payload, deserializer=self._worker.job_deserializer)
                job.name, job.args, job.kwargs, own_try, job.enqueue_time_ms = _checked(decoded)
            except DeserializationError as problem:
                logger.exception("deserializing job %s failed", lease.id)
                raise Unrunnable(job, problem) from problem
        job.tries = max(job.tries, own_try)
        return job

    def _resolve(self, job: Job) -> Function | CronJob:
        """The function that the job names, if it is to be called at all; raises `Unrunnable`."""
        worker, lease = self._worker, job.lease
        job.ref = f"{lease.id}:{job.name}"
        if lease.abort_asked:
            raise self._aborted(job)
        function = worker.functions.get(job.name)
        if function is None:
            logger.warning("job %s, function %r not found", lease.id, job.name)
            raise Unrunnable(job, JobExecutionFailed(f"function {job.name!r} not found"))
        if isinstance(function, CronJob):
            job.ref = job.name
            job.marker_ms = round(arq.worker.keep_cronjob_progress * 1000)  # type: ignore[attr-defined]
        max_tries = worker.max_tries if function.max_tries is None else function.max_tries
        if job.tries > max_tries:
            logger.warning("%6.2fs ! %s max retries %d exceeded", _age_s(job), job.ref, max_tries)
            raise Unrunnable(job, JobExecutionFailed(f"max {max_tries} retries exceeded"))
        return function

    def _aborted(self, job: Job) -> Unrunnable:
        logger.info("%6.2fs ⊘ %s aborted before start", _age_s(job), job.ref)
        return Unrunnable(job, asyncio.CancelledError())

    async def _count_try(self, job: Job) -> None:
        """A client can say that its job has had tries already (`_job_try`); the count goes on from there."""
        job.lease.traced = True
        try:
            await self._worker.pool.setex(self._worker.keys.retry + job.lease.id, RETRY_TTL_S, str(job.tries))
        except REDIS_ERRORS as problem:
            logger.warning("job %s keeps its own count of tries: %s", job.lease.id, problem)

    def _context(self, job: Job) -> dict[Any, Any]:
        lease = job.lease
        if job.run is None:
            job.run = RunContext(
                lease_token=lease.token,
                limit_key=lease.limit_key,
                was_parked=lease.was_parked,
                clock_behind_s=self._worker.clock_behind_s,
                deadline_passed=lease.deadline_passed,
            )
        ctx = dict(self._worker.ctx)
        ctx["job_id"] = lease.id
        ctx["job_try"] = job.tries
        ctx["enqueue_time"] = _to_datetime(job.enqueue_time_ms)
        ctx["score"] = lease.score
        ctx[KEY] = job.run
        return ctx

    async def _check_crashes(self, job: Job, function: CountsOwnAttempts) -> None:
        """Raises `FinishedEarly` for a job that was started too often to be started again."""
        if job.tries <= function.unjudged_starts:
            return
        ctx = job.ctx = self._context(job)
        try:
            end = await function.finish_if_crashed(ctx, *job.args, **job.kwargs)
        except Exception as problem:
            raise FinishedEarly(self._judge(job, function, problem)) from problem
        if end is not None:
            logger.warning("%6.2fs ! %s not started again after %d starts", _took_s(job), job.ref, job.tries - 1)
            self._worker.jobs_complete += 1
            raise FinishedEarly(self._finish(job, function, True, end))

    async def _perform(self, job: Job, function: Function | CronJob) -> Outcome | None:
        """Calls the start hook and the coroutine, within the timeout. None: the job is another owner's by now."""
        worker, lease = self._worker, job.lease
        timeout_s = worker.job_timeout_s if function.timeout_s is None else function.timeout_s
        informs = logger.isEnabledFor(logging.INFO)
        shown = ""
        ctx = job.ctx = self._context(job)
        if lease.lost:
            return None
        if lease.abort_asked:  # while its tries were counted, or its starts judged
            raise self._aborted(job)
        lease.running = job.begun = True
        try:
            if worker.on_job_start is not None:
                await worker.on_job_start(ctx)
                job.start_ms = _now_ms()
            if informs:
                self._log_start(job)
            if timeout_s is not None:
                self._timeouts.start(lease, timeout_s)
            try:
                value = await function.coroutine(ctx, *job.args, **job.kwargs)
            finally:
                if timeout_s is not None:
                    self._timeouts.stop(lease, timeout_s)
            if informs and value is not None and worker.log_results:
                shown = truncate(repr(value))
        except (Exception, asyncio.CancelledError) as problem:  # noqa: BLE001 - the user's code may raise anything
            lease.running = False
            return self._judge(job, function, problem)
        lease.running = False
        if informs:
            logger.info("%6.2fs ← %s ● %s", _took_s(job), job.ref, shown)
        worker.jobs_complete += 1
        return self._finish(job, function, True, value)

    def _log_start(self, job: Job) -> None:
        extra = f" try={job.tries}" if job.tries > 1 else ""
        if job.start_ms - job.lease.score > 1200:
            extra += f" delayed={(job.start_ms - job.lease.score) / 1000:0.2f}s"
        shown = args_to_string(job.args, job.kwargs) if self._worker.log_arguments else "..."
        logger.info("%6.2fs → %s(%s)%s", _age_s(job), job.ref, shown, extra)

    def _judge(self, job: Job, function: Function | CronJob, problem: BaseException) -> Outcome | None:
        """What becomes of a job whose coroutine (or start hook) raised."""
        worker, lease = self._worker, job.lease
        cancelled = isinstance(problem, asyncio.CancelledError)
        if lease.lost:
            return None
        if isinstance(problem, Snooze):
            logger.info("%6.2fs ↻ %s given back for %0.2fs", _took_s(job), job.ref, (problem.defer_score or 0) / 1000)
            worker.jobs_retried += 1
            return self._released(job, problem.defer_score or None)
        if worker.retry_jobs and isinstance(problem, Retry):
            logger.info("%6.2fs ↻ %s retrying job in %0.2fs", _took_s(job), job.ref, (problem.defer_score or 0) / 1000)
            worker.jobs_retried += 1
            return Outcome(lease, Action.RETRY, defer_ms=problem.defer_score or None, marker_ms=job.marker_ms)
        if cancelled and lease.abort_asked:
            logger.info("%6.2fs ⊘ %s aborted", _took_s(job), job.ref)
            worker.jobs_failed += 1
            return self._finish(job, function, False, problem)
        if cancelled and lease.timed_out:
            problem, cancelled = TimeoutError(), False
        if worker.retry_jobs and (cancelled or isinstance(problem, RetryJob)):
            logger.info("%6.2fs ↻ %s cancelled, will be run again", _took_s(job), job.ref)
            worker.jobs_retried += 1
            if cancelled and worker.stopping:  # the worker's doing, not the job's: no try of it, and no marker
                return self._released(job, None)
            return Outcome(lease, Action.RETRY, marker_ms=job.marker_ms)
        what, extra = type(problem).__name__, _extra_of(problem)
        logger.error(
            "%6.2fs ! %s failed, %s: %s", _took_s(job), job.ref, what, problem, exc_info=problem, extra={"extra": extra}
        )
        worker.jobs_failed += 1
        return self._finish(job, function, False, problem)

    def _released(self, job: Job, defer_ms: int | None) -> Outcome:
        """The job goes back, and the try is not counted."""
        left_keys = job.run is not None and job.run.extra_keys
        return Outcome(job.lease, Action.RELEASE_TRACED if left_keys else Action.RELEASE, defer_ms=defer_ms)

    def _finish(self, job: Job, function: Function | CronJob, success: bool, value: Any) -> Outcome:
        """The job is over, and `value` is what its coroutine returned or raised."""
        ttl_ms = self._result_ttl_ms(job, function)
        result = b"" if ttl_ms == 0 else self._serialized(job, success, value)
        letter = self._letter(job, success, value)
        left_keys = job.lease.traced or (job.run is not None and job.run.extra_keys)
        action = Action.FINISH if left_keys else Action.CLEAN
        return Outcome(job.lease, action, result=result, result_ttl_ms=ttl_ms, marker_ms=job.marker_ms, letter=letter)

    def _refuse(self, job: Job, reason: BaseException, action: Action) -> Outcome:
        """The job is over without a run, and `reason` is why."""
        worker = self._worker
        worker.jobs_failed += 1
        ttl_ms = None if worker.keep_result_forever else _to_ttl_ms(worker.keep_result_s)
        result = b"" if ttl_ms == 0 else self._serialized(job, False, reason)
        return Outcome(job.lease, action, result=result, result_ttl_ms=ttl_ms, letter=self._letter(job, False, reason))

    def _letter(self, job: Job, success: bool, value: Any) -> bytes:
        """What the job's dead letter says; empty if it has none: it went well, or somebody wanted its end."""
        dead = self._worker.dead
        if success:
            kept = job.run.dead_letter if job.run is not None else None
            return b"" if kept is None else dead.said_of_return(job, kept, _now_ms())
        return b"" if isinstance(value, asyncio.CancelledError) else dead.said_of_failure(job, value, _now_ms())

    def _result_ttl_ms(self, job: Job, function: Function | CronJob) -> int | None:
        """How long the result is kept: as the job itself said, or its function, or the worker. None: for ever."""
        own = job.run and job.run.result_ttl_s
        if isinstance(own, _NUMBER):
            return _to_ttl_ms(own)
        worker = self._worker
        forever = function.keep_result_forever
        if worker.keep_result_forever if forever is None else forever:
            return None
        return _to_ttl_ms(worker.keep_result_s if function.keep_result_s is None else function.keep_result_s)

    def _serialized(self, job: Job, success: bool, value: Any) -> bytes:
        """The result as it is stored; empty if not even its failure can be written."""
        data = self._encoded(job, success, value)
        if isinstance(data, str):
            data = data.encode()
        elif not isinstance(data, bytes):
            if data is not None:
                logger.critical("the serializer gave %s for the result of %s, not bytes", type(data).__name__, job.ref)
            return b""
        if len(data) > MAX_RESULT_BYTES:
            problem = f"unable to store a result of {len(data)} bytes"
            logger.error("%s of %s, %d is the most", problem, job.ref, MAX_RESULT_BYTES)
            job.args, job.kwargs = (), {}
            return self._serialized(job, False, problem)
        return data

    def _encoded(self, job: Job, success: bool, value: Any) -> object:
        """What the serializer makes of the result, or of the news that it can make nothing of it."""
        worker, ended_ms = self._worker, _now_ms()
        if worker.job_serializer is serialize:
            try:
                return encode_finished(
                    FinishedJob(
                        job.tries,
                        job.name,
                        job.args,
                        job.kwargs,
                        job.enqueue_time_ms,
                        success,
                        value,
                        job.start_ms,
                        ended_ms,
                        worker.queue_name,
                        job.lease.id,
                    )
                )
            except Exception as problem:  # noqa: BLE001 - a value may raise anything; arq's way, next, logs and stores that
                logger.debug("job %s: %s", job.ref, problem)
        return serialize_result(
            job.name,
            job.args,
            job.kwargs,
            job.tries,
            job.enqueue_time_ms,
            success,
            value,
            job.start_ms,
            ended_ms,
            job.ref or job.lease.id,
            worker.queue_name,
            job.lease.id,
            serializer=worker.job_serializer,
        )

    async def _call_hook(self, hook: StartupShutdown, job: Job) -> None:
        """Calls a hook of the user's. What it raises is logged: the job has ended as it has ended."""
        if not job.begun or job.ctx is None:
            return
        try:
            await hook(job.ctx)
        except (Exception, asyncio.CancelledError):
            logger.exception("hook %s of job %s failed", getattr(hook, "__qualname__", hook), job.lease.id)

    async def _wait_committed(self, outcome: Outcome) -> None:
        try:
            await self._worker.committer.wait_committed(outcome)
        except asyncio.CancelledError:
            logger.warning("job %s: the worker stops before the result is recorded", outcome.lease.id)


def _now_ms() -> int:
    return int(time.time() * 1000)


@lru_cache(maxsize=16)
def _to_datetime(ms: int) -> datetime:
    """As arq's own. The jobs of a batch were enqueued at one moment."""
    return ms_to_datetime(ms)


def _age_s(job: Job) -> float:
    """For how long it has been there, at its start."""
    return (job.start_ms - job.enqueue_time_ms) / 1000


def _took_s(job: Job) -> float:
    return (_now_ms() - job.start_ms) / 1000


def _checked(decoded: tuple[Any, ...]) -> tuple[str, tuple[Any, ...], dict[str, Any], int, int]:
    """A decoded job whose parts have the types that running it relies on; raises `DeserializationError`."""
    name, args, kwargs, own_try, enqueue_time_ms = decoded
    if (
        isinstance(name, str)
        and isinstance(args, _SEQUENCE)
        and isinstance(kwargs, dict)
        and (own_try is None or isinstance(own_try, int))
        and isinstance(enqueue_time_ms, _NUMBER)
        and 0 <= enqueue_time_ms < END_OF_TIME_MS
    ):
        return name, args, kwargs, own_try or 0, enqueue_time_ms  # type: ignore[return-value]  # a list is as good
    raise DeserializationError("unable to deserialize job")


@lru_cache(maxsize=64)
def _to_ttl_ms(seconds: float | None) -> int:
    if seconds is None or not seconds > 0:
        return 0
    return max(1, round(min(seconds * 1000, MAX_TTL_MS)))


def _extra_of(problem: BaseException) -> Any:
    """What arq lets an exception add to the log record."""
    extra = getattr(problem, "extra", None)
    try:
        return extra() if callable(extra) else extra
    except Exception as failure:  # noqa: BLE001 - the user's code, and only the log would have it
        return failure
