"""The worker: arq's worker with batched calls to Redis, and a lease for every job."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Sequence
from secrets import token_hex
from signal import Signals
from typing import Any, Final

from arq.typing import WorkerCoroutine
from arq.worker import Function

from fetchq.inspect.workers import WorkerRecord
from fetchq.store.errors import REDIS_ERRORS, address_of
from fetchq.store.keys import Keys, check_namespace, check_queue
from fetchq.store.runner import ScriptRunners
from fetchq.tasks import keep_cancelling, raise_if_cancelled
from fetchq_worker.engine.queue.admission import Admission, Gate
from fetchq_worker.engine.queue.lease import CancelReason, Lease
from fetchq_worker.engine.queue.outcome import Action, Outcome
from fetchq_worker.engine.queue.wakeup import Waker
from fetchq_worker.engine.run.dead_letters import DEFAULT_TTL_S, DeadLetterWriter
from fetchq_worker.engine.run.job import JobDecoder
from fetchq_worker.engine.upkeep.presence import new_record
from fetchq_worker.telemetry.process_measures import ProcessMeasures
from fetchq_worker.telemetry.publisher import Subscriber
from fetchq_worker.telemetry.telemetry import Telemetry

from .arq_redis import client_of, open_client
from .arq_worker import ArqWorker, signature_of
from .event_loop import run_to_end
from .parts import Parts
from .preflight import is_final, wait_ready
from .state import measures_of, stopped, updated, why_not_ready
from .stopping.drain import requeue_and_commit, wait_grace, wait_runs
from .stopping.stop import Stop

logger = logging.getLogger("arq.worker")

MIN_TICK_S: Final = 0.02
"""Minimum time between two polls for aborts, cron jobs, and jobs that were enqueued without a wake token."""
MIN_CALL_TIMEOUT_S: Final = 5.0
MIN_HEARTBEAT_TIMEOUT_S: Final = 0.5
HEART_BEAT_TIMEOUT_S: Final = 5.0


class Worker(ArqWorker):
    """Runs the jobs of one queue. It takes the arguments of `arq.worker.Worker`, and:

    :param lease_s: seconds without a renewal after which another worker runs a job again
    :param renew_s: how often leases are renewed; a third of `lease_s` by default
    :param namespace: a prefix for every key name, such as a hash tag
    :param start_wait_s: how long a worker that starts waits for a Redis that cannot be reached or is not ready
    :param commit_ms: how long a finished job may wait for others to be committed with
    :param log_arguments: whether the log line about a job's start shows its arguments
    :param dead_letter_ttl_s: how long a job that failed for good is kept as a dead letter
    :param dead_letter_max: the maximum number of dead letters, beyond which the oldest are deleted; 0, the default:
    none :param gate: names the limit key of each job whose payload has none; without a gate, such jobs have no limits
    :param subscribers: called with each event (`fetchq_worker.telemetry.events`) in the event loop: they must not block
    :param metrics: whether what the worker measures, and how its jobs end, is added to the queue's figures
    :param traces: the span of an attempt has a `link` to that of its sender, or is its `child`; or spans are `off`
    """

    started = False
    """Redis was ready, and `on_startup` has returned."""
    stopping = False
    """The grace time has ended, and the runs are being cancelled."""
    in_main = False
    """Whether the main task claims jobs, or waits for jobs to claim."""
    _next_tick_at = 0.0
    _main_began = _main_runs = _closing = False
    _grace_task: asyncio.Task[Any] | None = None

    def __init__(
        self,
        functions: Sequence[Function | WorkerCoroutine] = (),
        *,
        lease_s: float = 15.0,
        renew_s: float | None = None,
        namespace: str = "",
        start_wait_s: float = 20.0,
        commit_ms: float = 2.0,
        log_arguments: bool = True,
        dead_letter_ttl_s: float = DEFAULT_TTL_S,
        dead_letter_max: int = 0,
        gate: Gate | None = None,
        subscribers: Sequence[Subscriber] = (),
        metrics: bool = True,
        traces: str = "link",
        **arq_arguments: Any,
    ) -> None:
        self.lease_s: Final = lease_s
        self.renew_s: Final = lease_s / 3 if renew_s is None else renew_s
        if not 0 < self.renew_s < lease_s:
            raise ValueError(f"renew_s is {self.renew_s} and lease_s {lease_s}: a lease must be renewed before it ends")
        if commit_ms < 0:
            raise ValueError(f"commit_ms is {commit_ms}: it must not be negative")
        check_namespace(namespace)
        self.start_wait_s: Final = start_wait_s
        self._call_timeout_s: Final = max(lease_s, MIN_CALL_TIMEOUT_S)
        self.metrics: Final = metrics
        telemetry = Telemetry(subscribers, traces, measures=metrics)
        super().__init__(functions, telemetry=telemetry, **arq_arguments)
        # `worker_settings` wraps this hook for the stock arq command, which has no commit; here the original is called.
        self.after_job_end = getattr(self.after_job_end, "engine_hook", self.after_job_end)
        check_queue(self.queue_name)
        self.keys: Final = Keys(queue=self.queue_name, namespace=namespace)
        self.queue_name = self.keys.pending
        if arq_arguments.get("health_check_key") is None:
            self.health_check_key = self.keys.health
        if self._pool is not None:
            self._pool = client_of(self, self._pool, self.keys)
        self._given_pool: Final = self._pool
        self.id: Final = token_hex(6)
        self.log_arguments: Final = log_arguments
        self._dead_letters: Final = DeadLetterWriter(self.keys, ttl_s=dead_letter_ttl_s, max_count=dead_letter_max)
        self._decoder: Final = JobDecoder(self.job_deserializer)
        self._admission: Final = Admission(self.keys, gate, self._decoder.find_job)
        self._commit_s: Final = commit_ms / 1000
        self._record: Final = new_record(self.id, self.keys.queue, heartbeat_s=self.renew_s)
        self._build()
        self.stop: Final = Stop(self, grace_s=self._job_completion_wait)
        self._tick_s: Final = max(self.poll_delay_s, MIN_TICK_S)

    def _build(self) -> None:
        self._parts = Parts(
            self,
            admission=self._admission,
            decoder=self._decoder,
            dead_letters=self._dead_letters,
            commit_s=self._commit_s,
        )
        self.leases, self.committer = self._parts.leases, self._parts.committer
        self._claimer, self._claims, self._runner = self._parts.claimer, self._parts.claims, self._parts.runner
        self._wake_event, self._heartbeat = self._parts.wake_event, self._parts.heartbeat
        self._scripts: ScriptRunners | None = None
        self._left_main = asyncio.Event()
        self._left_main.set()

    # Life

    def run(self) -> None:
        """Runs the worker to its end, then closes it. In an event loop of its own if the worker's is closed or runs."""
        is_own = self.loop.is_closed() or self.loop.is_running()
        loop = self.loop = asyncio.new_event_loop() if is_own else self.loop
        self._forget_stop()
        self.main_task = loop.create_task(self.main())
        try:
            with contextlib.suppress(asyncio.CancelledError):  # how a signal ends it
                run_to_end(loop.run_until_complete, self.main_task)
        finally:
            run_to_end(loop.run_until_complete, loop.create_task(self.close()))
            if is_own:
                loop.close()

    async def async_run(self) -> None:
        """Runs the worker in the running event loop, and does not close it."""
        self.loop = asyncio.get_running_loop()
        self._forget_stop()
        await super().async_run()

    def _forget_stop(self) -> None:
        """A worker that was stopped or closed can be run again."""
        if self.stopping:
            self.stopping, self.allow_pick_jobs = False, True

    async def main(self) -> None:
        """Connects, then claims and runs jobs until it is stopped or, in a burst, until the queue is empty."""
        if self._main_began:
            self._forget_stop()
        self._main_began = self._main_runs = True
        self._use_running_loop()
        if self._handle_signals:
            self.stop.listen()
        try:
            await self._start_and_run()
        finally:
            self._main_runs = False
            self.stop.main_ended()

    async def _start_and_run(self) -> None:
        scripts = await self._open()
        logger.info("Starting worker for %d functions: %s", len(self.functions), ", ".join(self.functions))
        give_up_at = self.loop.time() + self.start_wait_s
        await wait_ready(self.pool, wait_s=self.start_wait_s)
        self.ctx["redis"] = self.pool
        self.ctx.setdefault("keys", self.keys)
        await self._admission.open(self.pool)
        if self.on_startup:
            await self.on_startup(self.ctx)
        self.in_main = self.started = True
        where = address_of(self.pool)
        self.telemetry.start(worker=self.id, queue=self.queue_name, concurrency=self.max_jobs, redis=where)
        self._left_main.clear()
        self._next_tick_at = 0.0
        self._claims.waker = Waker(self.pool, self.keys, self._wake_event)
        self._heartbeat.start(self.pool, scripts.heartbeat)
        self._parts.lag.start()
        try:
            await self._claim_and_run(give_up_at)
        finally:
            self.in_main = False
            self._parts.lag.stop()
            try:
                await self._leave_main()
            finally:
                self._left_main.set()

    def _use_running_loop(self) -> None:
        """Makes the parts again for a worker that was made, or has run before, in another event loop."""
        self.loop = asyncio.get_running_loop()
        if self._parts.loop is self.loop:
            return
        left = [*self.committer.unsent, *(Outcome(lease, Action.REQUEUE) for lease in self.leases)]
        self.tasks.clear()
        self._build()
        for outcome in left:  # the runs ended with their loop
            self.committer.add(outcome)
        if self._pool is not None:  # idle connections belong to the loop in which they were made
            self._pool.connection_pool._available_connections.clear()

    async def _open(self) -> ScriptRunners:
        if self._pool is None:
            self._pool = self._given_pool or await open_client(self, self.keys)
        if self._scripts is None:
            self._scripts = ScriptRunners.on(
                self._pool,
                timeout_s=self._call_timeout_s,
                heartbeat_timeout_s=max(self.renew_s, MIN_HEARTBEAT_TIMEOUT_S),
            )
            self.committer.use(self._scripts.jobs)
        return self._scripts

    async def _claim_and_run(self, give_up_at: float) -> None:
        """After `give_up_at`, by the loop's clock, an outage is waited out only if Redis was available before."""
        connected = False
        while not (self.stopping or self._closing):
            raise_if_cancelled()
            try:
                await self._poll_iteration()
                if self.burst and await self._burst_is_over():
                    return
            except REDIS_ERRORS as problem:
                if not connected and is_final(problem, late=self.loop.time() >= give_up_at):
                    raise
                await self._wake_event.wait(self._parts.backoff.next_pause_s(problem))
                continue
            connected = True
            if self._claims.queued is not None:  # else there was no free slot, and no call
                self._parts.backoff.reset()
            await self._claims.wait(self._next_tick_at)

    async def _leave_main(self) -> None:
        """Called when claiming has ended. Runs may continue under their leases until `close`."""
        if self._claims.waker is not None:
            await self._claims.waker.aclose()
            self._claims.waker = None
        if not self.running_count:
            await self._heartbeat.stop()
            if not self.stopping and not self._closing:  # the end of a burst: arq's health key stays until `close`
                await self._sign_off()

    async def close(self) -> None:
        """Ends the runs as `stopping.drain` says, signs off, then closes all connections.

        While Redis is unavailable this takes some seconds, and what cannot be written is dropped. `on_shutdown` is
        called in any case.
        """
        if not self._handle_signals:
            self.handle_sig(signal.SIGUSR1)
        if not self._pool:
            return
        self._use_running_loop()
        self._closing = True
        self.stop.close_begins()
        self._wake_event.set()
        await self._left_main.wait()
        try:
            try:
                await wait_runs(self.tasks.values(), cancelled=self.stopping)
                self.stop.runs_ended()
                await requeue_and_commit(self.leases, self.committer, self._claims.claiming)
                await self._heartbeat.stop()
                await self._sign_off(self.health_check_key)
            finally:
                if self.started:
                    self.telemetry.events.publish(stopped(self))
                if self.on_shutdown:
                    await self.on_shutdown(self.ctx)
        finally:
            self._scripts = None
            self._closing = False
            await self.pool.aclose(close_connection_pool=True)
            self._pool = None
            self.stop.closed()

    async def _sign_off(self, health_check_key: str | None = None) -> None:
        if self._scripts is not None:
            await self._heartbeat.report_last(self._scripts.heartbeat, updated(self._record, self))
        await self._heartbeat.sign_off(self.pool, health_check_key=health_check_key)

    # Claims and runs (`ClaimHost`, `RunHost`)

    async def _poll_iteration(self) -> None:
        """Claims and starts jobs; at each tick, applies aborts, starts cron jobs and records the health."""
        scripts = await self._open()
        now = self.loop.time()
        if len(self.leases) and now - self.leases.renewed_at > (self.renew_s + self.lease_s) / 2:
            # The loop was blocked or Redis unavailable: a claim before this could take jobs that still run here.
            await self.leases.renew(scripts.heartbeat)
        await self._claims.claim(scripts)
        if now >= self._next_tick_at:
            self._next_tick_at = now + self._tick_s
            if self.allow_abort_jobs and await self._parts.aborts.apply(scripts.heartbeat, self.leases):
                self._claims.expect_due_jobs()
            async with asyncio.timeout(HEART_BEAT_TIMEOUT_S):  # arq's calls have none, and a stop would wait for them
                await self.heart_beat()

    @property
    def burst_is_limited(self) -> bool:
        return self.burst and self.max_burst_jobs >= 0

    def claim_limit(self) -> int:
        if not self.allow_pick_jobs or self.stopping or self.stop.quiet:
            return 0
        if self.burst_is_limited:
            return min(self.queue_read_limit, self.max_burst_jobs - self._jobs_started())
        return self.queue_read_limit

    def start_runs(self, leases: Sequence[Lease]) -> None:
        run = self.run_by_arqs_methods if self.runs_by_arqs_methods() else self._runner.run
        for lease in leases:
            lease.task = self.tasks[lease.id] = self.loop.create_task(run(lease))

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Claims and starts those of `job_ids` that are due and free, as far as there are slots."""
        self._use_running_loop()
        scripts = await self._open()
        if await self._claims.claim_only(scripts.jobs, job_ids):
            self._heartbeat.start(self.pool, scripts.heartbeat)

    @property
    def running_count(self) -> int:
        """How many runs hold a slot."""
        return self._claims.running

    @property
    def clock_behind_s(self) -> float:
        """By how much this machine's clock is behind Redis's, to some ms."""
        return self._claimer.clock_behind_s

    @property
    def why_not_ready(self) -> str | None:
        """Why the worker takes no jobs now, for its health check; None if it does."""
        return why_not_ready(self)

    @property
    def parts(self) -> Parts:
        return self._parts

    @property
    def is_stopping(self) -> bool:
        return self.stopping or self._closing or not self.allow_pick_jobs

    def measures(self) -> ProcessMeasures:
        """What the worker measures of itself now."""
        return measures_of(self)

    async def wait_admitted(self, lease: Lease) -> bool:
        admitted = await self._admission.wait_admitted((await self._open()).jobs, lease)
        if admitted:
            self._claimer.measure_wait(lease)
        return admitted

    def on_run_end(self, lease: Lease) -> None:
        self._claims.on_run_end(lease)
        if self.tasks.get(lease.id) is lease.task:
            del self.tasks[lease.id]
        if not self.in_main and not self._claims.running:
            self._heartbeat.stop_soon()

    def new_record(self) -> WorkerRecord | None:
        return updated(self._record, self) if self.in_main else None

    async def _burst_is_over(self) -> bool:
        enough = 0 <= self.max_burst_jobs <= self._jobs_started()
        if not enough and (self._claims.queued != 0 or await self.pool.zcard(self.queue_name) != 0):
            return False
        await asyncio.gather(*self.tasks.values())
        await self.committer.flush()
        return True

    # Signals (`StopHost`)

    @property
    def is_active(self) -> bool:
        return self._main_runs or self._closing

    def on_state_change(self) -> None:
        self._heartbeat.beat_soon()
        self._wake_event.set()

    def _add_signal_handler(self, signum: Signals, handler: Callable[[Signals], None]) -> None:
        """arq adds its handlers to the loop when the worker is made; here `main` does, to the loop that runs it."""

    def handle_sig(self, signum: Signals) -> None:
        """Stops at once: runs are cancelled and their jobs requeued, with the try not counted."""
        if self._grace_task is not None:
            self._grace_task.cancel()
        self._begin_stop()
        super().handle_sig(signum)
        keep_cancelling(self.main_task, lambda: self.in_main)

    async def _wait_for_tasks_to_complete(self, signum: Signals) -> None:
        """Waits until every run has ended, at most `job_completion_wait` s; then cancels the others."""
        self._grace_task = asyncio.current_task()
        await wait_grace(self.tasks, lambda: self._claims.claiming, self._job_completion_wait)
        self._grace_task = None
        self._begin_stop()
        logger.info(
            "shutdown on %s, wait complete ◆ %d jobs complete ◆ %d failed ◆ %d retries ◆ %d ongoing to cancel",
            signum.name,
            self.jobs_complete,
            self.jobs_failed,
            self.jobs_retried,
            sum(not task.done() for task in self.tasks.values()),
        )
        for task in self.tasks.values():
            if not task.done():
                task.cancel()
        if self.main_task is not None:
            self.main_task.cancel()
            keep_cancelling(self.main_task, lambda: self.in_main)
        if self.on_stop is not None:
            self.on_stop(signum)

    def _begin_stop(self) -> None:
        self.stopping = True
        for lease in self.leases:
            lease.cancel(CancelReason.SHUTDOWN)
        self._wake_event.set()


Worker.__signature__ = signature_of(Worker)  # type: ignore[attr-defined]  # `inspect.signature` looks here first
