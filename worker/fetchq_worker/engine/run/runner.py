"""Runs one job, from its lease to its outcome."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, Protocol

import arq.worker
from arq.cron import CronJob
from arq.typing import StartupShutdown
from arq.worker import Function, JobExecutionFailed, Retry, RetryJob
from redis.asyncio import Redis

from fetchq.store.errors import REDIS_ERRORS, reason_of
from fetchq.store.keys import Keys
from fetchq.telemetry.ends import end_field
from fetchq_worker.engine.queue.commit import Committer
from fetchq_worker.engine.queue.lease import CancelReason, Lease, LeaseEvent, LeaseState
from fetchq_worker.engine.queue.outcome import Action, Outcome
from fetchq_worker.telemetry.events import RequeueReason
from fetchq_worker.telemetry.publisher import Publisher
from fetchq_worker.telemetry.telemetry import Telemetry

from .arq_compat import age_s, log_failure, log_start, run_s, shown_result, to_datetime
from .context import KEY, RunContext
from .crash_policy import CountsOwnAttempts
from .dead_letters import DeadLetterWriter
from .job import Job, JobDecoder, Unrunnable, now_ms
from .job_events import job_ended, job_requeued, job_retried, job_snoozed, job_started
from .raised import examinable, is_the_jobs, own_cancellation, tries_exceeded
from .result import ResultEncoder
from .snooze import Snooze
from .timeouts import Timeouts

logger = logging.getLogger("arq.worker")
"""arq's logger, for arq's log lines."""
engine_logger = logging.getLogger("fetchq.engine")

RETRY_TTL_S: Final = 88400

# Python 3.11 takes 0.2 us for each access to a member of an enum.
_START, _END, _LOST, _ABORT = LeaseEvent.START, LeaseEvent.END, LeaseState.LOST, CancelReason.ABORT
_FINISH, _CLEAN = Action.FINISH, Action.CLEAN


class FinishedEarly(Exception):
    """The outcome was decided before any hook was called. Never leaves this module."""

    def __init__(self, outcome: Outcome | None) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        """None: another worker holds the job."""


class RunHost(Protocol):
    """The worker, as its runs see it. Its arguments are read run by run: arq's users assign to them later, too."""

    loop: asyncio.AbstractEventLoop
    ctx: dict[Any, Any]
    functions: dict[str, Function | CronJob]
    on_job_start: StartupShutdown | None
    on_job_end: StartupShutdown | None
    after_job_end: StartupShutdown | None
    job_timeout_s: float
    max_tries: int
    retry_jobs: bool
    log_results: bool
    in_main: bool

    @property
    def log_arguments(self) -> bool: ...

    logs_events: bool

    jobs_complete: int
    jobs_failed: int
    jobs_retried: int

    @property
    def pool(self) -> Redis: ...

    @property
    def running_count(self) -> int: ...

    @property
    def clock_behind_s(self) -> float: ...

    @property
    def telemetry(self) -> Telemetry: ...

    async def wait_admitted(self, lease: Lease) -> bool:
        """Admits a job whose limit key needs a look-up. Returns whether it may start; if not, it is parked already."""

    def on_run_end(self, lease: Lease) -> None:
        """The run is over, and its slot free."""


class Finish(Protocol):
    """Takes an outcome in place of the committer. `refused`: the job could not be run."""

    async def __call__(self, outcome: Outcome, *, refused: bool) -> None: ...


class Runner:
    """Runs the jobs of one worker."""

    def __init__(
        self,
        host: RunHost,
        *,
        keys: Keys,
        decoder: JobDecoder,
        results: ResultEncoder,
        dead_letters: DeadLetterWriter,
        committer: Committer,
        events: Publisher,
    ) -> None:
        self._host = host
        self._events: Final = events
        self._retry_prefix: Final = keys.retry
        self._decoder = decoder
        self._results = results
        self._dead_letters = dead_letters
        self._committer = committer
        self._timeouts = Timeouts(host.loop)

    async def run(self, lease: Lease, finish: Finish | None = None) -> None:
        """Runs a job as a sequence of steps. When this returns, the committer, or `finish`, has the outcome."""
        host = self._host
        refused = False
        try:
            try:
                job = self._decoder.job_of(lease)
                if lease.needs_limit_lookup and not await host.wait_admitted(lease):
                    return
                function = self._resolve(job)
                if job.tries > 1:
                    await self._check_tries(job, function)
                outcome = await self._perform(job, function)
                if host.on_job_end is not None:
                    await self._call_hook(host.on_job_end, job)
            except FinishedEarly as early:
                outcome = early.outcome
            except Unrunnable as problem:
                job, refused = problem.job, True
                self._warn(problem.arq_line, lease.id, cause=problem.__cause__)
                outcome = self._refuse(job, problem.reason, problem.action)
            except (asyncio.CancelledError, KeyboardInterrupt):
                # Before the user's code was called, or by Ctrl-C in its midst: the try is not counted.
                self.requeue(lease)
                raise
            if outcome is not None:
                if lease.limit_key and job.run is not None:
                    outcome.host_outcome = job.run.host_outcome
                if finish is None:
                    self._committer.add(outcome, now=host.running_count <= 1)
                else:
                    await finish(outcome, refused=refused)
                if host.after_job_end is not None:
                    await self._wait_committed(outcome)
                    await self._call_hook(host.after_job_end, job)
        finally:
            lease.job = None  # lease and job refer to each other, and neither is tracked by the garbage collector
            host.on_run_end(lease)

    def requeue(self, lease: Lease) -> None:
        """Gives back the job of a run that ended before the user's code was called."""
        if lease.state is not _LOST:
            if self._events.wanted:
                self._events.publish(job_requeued(lease, RequeueReason.NOT_STARTED))
            self._committer.add(Outcome(lease, Action.REQUEUE))

    def refuse(self, lease: Lease, reason: BaseException) -> Outcome:
        """The outcome of a job that cannot be run, because of `reason`."""
        try:
            job = self._decoder.job_of(lease)
        except Unrunnable as problem:
            job = problem.job
        return self._refuse(job, reason, Action.FINISH)

    def _resolve(self, job: Job) -> Function | CronJob:
        """The function that the job names. Raises `Unrunnable` if it must not be called."""
        host, lease = self._host, job.lease
        job.ref = f"{lease.id}:{job.name}"
        if lease.cancel_reason is _ABORT:
            raise self._aborted(job)
        function = host.functions.get(job.name)
        if function is None:
            self._warn("job %s, function %r not found", lease.id, job.name)
            raise Unrunnable(job, JobExecutionFailed(f"function {job.name!r} not found"))
        if isinstance(function, CronJob):
            job.ref = job.name
            job.marker_ms = round(arq.worker.keep_cronjob_progress * 1000)  # type: ignore[attr-defined]
        max_tries = host.max_tries if function.max_tries is None else function.max_tries
        if job.tries > max_tries:
            self._warn("%6.2fs ! %s max retries %d exceeded", age_s(job), job.ref, max_tries)
            raise Unrunnable(job, tries_exceeded(max_tries, is_lost=job.lease.tries > 1))
        return function

    def _warn(self, text: str, *arguments: object, cause: BaseException | None = None) -> None:
        """Logs why a job fails, in arq's words (empty: that is logged already), unless `job.failed` says so."""
        if text and not self._host.logs_events:
            logger.log(logging.WARNING if cause is None else logging.ERROR, text, *arguments, exc_info=cause)

    def _aborted(self, job: Job) -> Unrunnable:
        logger.info("%6.2fs ⊘ %s aborted before start", age_s(job), job.ref)
        return Unrunnable(job, asyncio.CancelledError())

    async def _count_try(self, job: Job) -> None:
        """Stores the number of tries of a job that was enqueued with `_job_try`, to continue the count from it."""
        job.lease.has_extra_keys = True
        try:
            await self._host.pool.setex(self._retry_prefix + job.lease.id, RETRY_TTL_S, str(job.tries))
        except REDIS_ERRORS as problem:
            logger.warning("job %s: its number of tries was not stored: %s", job.lease.id, reason_of(problem))

    def _context(self, job: Job) -> dict[Any, Any]:
        lease, host = job.lease, self._host
        if job.run is None:
            job.run = RunContext(
                lease.token, lease.limit_key, lease.was_parked, host.clock_behind_s, lease.deadline_passed
            )
        ctx = dict(host.ctx)
        ctx["job_id"] = lease.id
        ctx["job_try"] = job.tries
        ctx["enqueue_time"] = to_datetime(job.enqueue_time_ms)
        ctx["score"] = lease.score
        ctx[KEY] = job.run
        return ctx

    async def _check_tries(self, job: Job, function: Function | CronJob) -> None:
        """Raises `FinishedEarly` for a job that was started too often to be started again."""
        if job.tries != job.lease.tries:
            await self._count_try(job)
        if isinstance(function, CountsOwnAttempts):
            await self._check_crashes(job, function)

    async def _check_crashes(self, job: Job, function: CountsOwnAttempts) -> None:
        if job.tries <= function.unchecked_starts:
            return
        ctx = job.ctx = self._context(job)
        try:
            result = await function.finish_if_crashed(ctx, *job.args, **job.kwargs)
        except Exception as problem:
            raise FinishedEarly(self._on_error(job, function, problem)) from problem
        if result is not None:
            logger.warning("%6.2fs ! %s not started again after %d starts", run_s(job), job.ref, job.tries - 1)
            raise FinishedEarly(self._finish(job, function, True, result))

    async def _perform(self, job: Job, function: Function | CronJob) -> Outcome | None:
        """Calls the start hook and the coroutine, within the timeout. None: another worker holds the job."""
        host, lease = self._host, job.lease
        timeout_s = host.job_timeout_s if function.timeout_s is None else function.timeout_s
        log_info = logger.isEnabledFor(logging.INFO)
        ctx = job.ctx = self._context(job)
        if lease.state is _LOST:
            return None
        if lease.cancel_reason is _ABORT:  # while its tries were counted, or its crashes checked
            raise self._aborted(job)
        lease.apply(_START)
        job.started, call = True, function.coroutine
        if self._events.wanted:
            self._events.publish(job_started(job))
        try:
            if host.on_job_start is not None:
                await host.on_job_start(ctx)
                job.start_ms = now_ms()
            if log_info:
                log_start(job, with_arguments=host.log_arguments)
            if host.telemetry.traces is not None:
                call = host.telemetry.traces.around(call, job)
            if timeout_s is not None:
                self._timeouts.start(lease, timeout_s)
            try:
                value = await call(ctx, *job.args, **job.kwargs)
            finally:
                if timeout_s is not None:
                    self._timeouts.stop(lease, timeout_s)
        except BaseException as raised:  # the user's code may raise anything: it ends its own run, and no more
            problem = examinable(raised)
            if not is_the_jobs(problem, lease.task):
                raise
            lease.apply(_END)
            return self._on_error(job, function, problem)
        lease.apply(_END)
        if log_info:
            shown = shown_result(value) if value is not None and host.log_results else ""
            logger.info("%6.2fs ← %s ● %s", run_s(job), job.ref, shown)
        return self._finish(job, function, True, value)

    def _on_error(self, job: Job, function: Function | CronJob, problem: BaseException) -> Outcome | None:
        """The outcome of a job whose coroutine or start hook raised; None: another worker holds the job."""
        host, lease = self._host, job.lease
        if lease.state is _LOST:
            return None
        if isinstance(problem, asyncio.CancelledError):
            return self._on_cancellation(job, function, problem)
        if isinstance(problem, Snooze):
            logger.info("%6.2fs ↻ %s snoozed for %0.2fs", run_s(job), job.ref, (problem.defer_score or 0) / 1000)
            host.jobs_retried += 1
            self._events.publish(job_snoozed(job, problem))
            return self._requeue(job, problem.defer_score or None)
        if host.retry_jobs and isinstance(problem, Retry):
            logger.info("%6.2fs ↻ %s retrying job in %0.2fs", run_s(job), job.ref, (problem.defer_score or 0) / 1000)
            return self._retry(job, function, problem, problem.defer_score or None)
        if host.retry_jobs and isinstance(problem, RetryJob):
            logger.info("%6.2fs ↻ %s cancelled, will be run again", run_s(job), job.ref)
            return self._retry(job, function, problem, None)
        return self._fail(job, function, problem)

    def _on_cancellation(
        self, job: Job, function: Function | CronJob, problem: asyncio.CancelledError
    ) -> Outcome | None:
        host, reason = self._host, job.lease.cancel_reason
        if reason is CancelReason.ABORT:
            logger.info("%6.2fs ⊘ %s aborted", run_s(job), job.ref)
            return self._finish(job, function, False, problem)
        if reason is CancelReason.TIMEOUT:
            timeout = TimeoutError()
            timeout.__cause__ = problem  # where the job was
            return self._fail(job, function, timeout)
        if reason is None and host.in_main:
            own = own_cancellation(problem)
            if not (host.retry_jobs and isinstance(function, CronJob)):
                return self._fail(job, function, own)
            again = RetryJob()  # as under arq: nobody else would run a cron job again
            again.__cause__ = own
            logger.warning("%6.2fs ↻ %s will be run again: %s", run_s(job), job.ref, own, exc_info=own)
            return self._retry(job, function, again, None)
        if not host.retry_jobs:
            return self._fail(job, function, problem)
        if self._events.wanted:
            self._events.publish(job_requeued(job.lease, RequeueReason.SHUTDOWN))
        if reason is None:  # the event loop ends, with a program that has not closed the worker
            self._committer.hold(self._requeue(job, None))
            return None
        logger.info("%6.2fs ↻ %s cancelled, will be run again", run_s(job), job.ref)
        host.jobs_retried += 1
        return self._requeue(job, None)  # not the job's fault: the try is not counted, and there is no marker

    def _fail(self, job: Job, function: Function | CronJob, problem: BaseException) -> Outcome:
        if not self._host.logs_events:
            log_failure(job, problem)
        return self._finish(job, function, False, problem)

    def _retry(self, job: Job, function: Function | CronJob, problem: BaseException, defer_ms: int | None) -> Outcome:
        """The job runs again, and this try is counted. After its last try it fails at once, and tells why."""
        host = self._host
        host.jobs_retried += 1
        max_tries = host.max_tries if function.max_tries is None else function.max_tries
        if job.tries < max_tries:
            if self._events.wanted:
                self._events.publish(job_retried(job, problem, defer_ms))
            return Outcome(job.lease, Action.RETRY, defer_ms=defer_ms, marker_ms=job.marker_ms)
        self._warn("%6.2fs ! %s max retries %d exceeded", age_s(job), job.ref, max_tries)
        return self._finish(job, function, False, tries_exceeded(max_tries, problem))

    def _requeue(self, job: Job, defer_ms: int | None) -> Outcome:
        """The job goes back to the queue, and the try is not counted."""
        has_extra_keys = job.run is not None and job.run.extra_keys
        return Outcome(job.lease, Action.REQUEUE_WITH_KEYS if has_extra_keys else Action.REQUEUE, defer_ms=defer_ms)

    def _finish(self, job: Job, function: Function | CronJob, success: bool, value: Any) -> Outcome:
        """The outcome of a finished job; `value` is what its coroutine returned or raised."""
        host, lease, ttl_ms = self._host, job.lease, self._results.ttl_ms(job, function)
        result, unencodable = (b"", None) if ttl_ms == 0 else self._results.encode(job, success, value)
        if unencodable is not None:
            success, value = False, unencodable
            if not host.logs_events:
                logger.warning("error serializing result of %s", job.ref, exc_info=unencodable)
        if success:
            host.jobs_complete += 1
        else:
            host.jobs_failed += 1
        has_extra_keys = lease.has_extra_keys or (job.run is not None and job.run.extra_keys)
        dead_letter = self._dead_letters.encoded_report(job) if success else self._dead_letter(job, value)
        action = _FINISH if has_extra_keys else _CLEAN
        figure = end_field(job.name, success=success, value=value)
        outcome = Outcome(
            lease, action, result, ttl_ms, marker_ms=job.marker_ms, dead_letter=dead_letter, figure=figure
        )
        if self._events.wanted or host.logs_events:
            self._publish_end(job, outcome, success, value, ran=True)
        return outcome

    def _refuse(self, job: Job, reason: BaseException, action: Action) -> Outcome:
        """The outcome of a job that is not run, because of `reason`."""
        self._host.jobs_failed += 1
        ttl_ms = self._results.ttl_ms(job, None)
        result = b"" if ttl_ms == 0 else self._results.encode(job, False, reason)[0]
        dead_letter = self._dead_letter(job, reason)
        figure = end_field(job.name if job.name in self._host.functions else None, success=False, value=reason)
        outcome = Outcome(job.lease, action, result, ttl_ms, dead_letter=dead_letter, figure=figure)
        if self._events.wanted or self._host.logs_events:
            self._publish_end(job, outcome, False, reason, ran=False)
        return outcome

    def _publish_end(self, job: Job, outcome: Outcome, success: bool, value: Any, *, ran: bool) -> None:
        """Without subscribers only the log wants an event, and only of a failure."""
        if self._events.wanted or not success or (job.run is not None and job.run.failure is not None):
            self._events.publish(job_ended(job, outcome, success, value, ran=ran))

    def _dead_letter(self, job: Job, problem: BaseException) -> bytes:
        """The dead letter of a failure; empty for a cancelled job, since its end was requested."""
        if isinstance(problem, asyncio.CancelledError):
            return b""
        return self._dead_letters.encoded_failure(job, problem)

    async def _call_hook(self, hook: StartupShutdown, job: Job) -> None:
        """Calls a hook of the user. Its exception is logged and does not change the outcome."""
        if not job.started or job.ctx is None:
            return
        try:
            await hook(job.ctx)
        except BaseException as problem:
            if not is_the_jobs(problem, job.lease.task):
                raise
            name = getattr(hook, "__qualname__", type(hook).__name__)
            engine_logger.exception("job.hook_failed id=%s hook=%s", job.lease.id, name)

    async def _wait_committed(self, outcome: Outcome) -> None:
        try:
            await self._committer.wait_committed(outcome)
        except asyncio.CancelledError:
            logger.warning("job %s: the worker stops before the result is recorded", outcome.lease.id)
