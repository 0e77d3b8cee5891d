"""The worker: arq's, with Redis spoken to in batches and every job under a lease."""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
from collections.abc import Callable, Sequence
from secrets import token_hex
from signal import Signals
from typing import Any, Final

import arq.worker
from arq.connections import create_pool
from arq.typing import WorkerCoroutine
from arq.worker import Function

from fetchq.store.engine_scripts import MAX_JOBS_A_CALL, REDIS_ERRORS, Scripts
from fetchq.store.keys import Keys
from fetchq.tasks import keep_cancelling, raise_if_cancelled
from fetchq_worker.engine.queue.aborts import Aborts
from fetchq_worker.engine.queue.admission import Admission, Gate
from fetchq_worker.engine.queue.claim import Claim, Claimer
from fetchq_worker.engine.queue.commit import Committer
from fetchq_worker.engine.queue.lease import Lease, Leases
from fetchq_worker.engine.queue.wakeup import WakeEvent, Waker
from fetchq_worker.engine.run.dead_letters import DEFAULT_TTL_S, DeadLetters
from fetchq_worker.engine.run.runner import Runner
from fetchq_worker.engine.upkeep.heartbeat import Heartbeat

from .preflight import check_server, lacks_rights
from .shutdown import drain

logger = logging.getLogger("arq.worker")
engine_logger = logging.getLogger("fetchq.engine")

MIN_TICK_S: Final = 0.02
"""The shortest time between two looks at what is not pushed: aborts, cron, and producers that send no wake."""
MIN_HEARTBEAT_TIMEOUT_S: Final = 0.5
HEART_BEAT_TIMEOUT_S: Final = 5.0
FIRST_BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 1.0
SMALLEST_FULL_CLAIM: Final = 32
MAX_UNCOMMITTED_BYTES: Final = 64 << 20


class Worker(arq.worker.Worker):
    """Runs the jobs of one queue. It takes what `arq.worker.Worker` takes, and:

    :param lease_s: after how many seconds without a renewal a job is taken for a dead worker's and runs again
    :param renew_s: how often leases are renewed; a third of `lease_s` by default
    :param namespace: what stands in front of every key name, such as a hash tag
    :param commit_ms: how long a finished job may wait for others to be committed with
    :param log_arguments: whether the line that says that a job starts shows its arguments
    :param dead_letter_ttl_s: how long a job that failed for good is kept as a dead letter
    :param dead_letter_max: how many of them are kept, the newest; none by default, as with arq
    :param gate: says to what a job's limits belong; without one, jobs have none
    """

    def __init__(
        self,
        functions: Sequence[Function | WorkerCoroutine] = (),
        *,
        lease_s: float = 15.0,
        renew_s: float | None = None,
        namespace: str = "",
        commit_ms: float = 2.0,
        log_arguments: bool = True,
        dead_letter_ttl_s: float = DEFAULT_TTL_S,
        dead_letter_max: int = 0,
        gate: Gate | None = None,
        **arq_arguments: Any,
    ) -> None:
        renew_s = lease_s / 3 if renew_s is None else renew_s
        if not 0 < renew_s < lease_s:
            raise ValueError(f"renew_s is {renew_s} and lease_s {lease_s}: a lease is renewed before it ends")
        if commit_ms < 0:
            raise ValueError(f"commit_ms is {commit_ms}: it is a time, not negative")
        super().__init__(functions, **arq_arguments)
        # A settings class may have a hook that does for stock arq what the commit does here.
        self.after_job_end = getattr(self.after_job_end, "engine_hook", self.after_job_end)
        if namespace and self.cron_jobs:
            raise ValueError("cron jobs are enqueued by arq, which knows no namespace: give one of the two")
        self.keys: Final = Keys(queue=self.queue_name, namespace=namespace)
        self.queue_name = self.keys.pending
        if arq_arguments.get("health_check_key") is None:
            self.health_check_key = self.keys.health
        self.id: Final = token_hex(6)
        self.log_arguments: Final = log_arguments
        self.lease_s: Final = lease_s
        self.renew_s: Final = renew_s
        lease_ms = max(1, round(lease_s * 1000))
        self.leases: Final = Leases(self.keys, lease_ms=lease_ms)
        self.dead: Final = DeadLetters(self.keys, ttl_s=dead_letter_ttl_s, most=dead_letter_max)
        self.committer: Final = Committer(self.keys, self.dead, delay_s=commit_ms / 1000, on_commit=self._on_commit)
        self.running_count = 0
        """How many runs hold a slot: more than `tasks` has if a job's old run is still ending beside its new one."""
        self.stopping = False
        """Told to stop, and the time of grace is over: what is still running is being cancelled."""
        self.claiming: asyncio.Task[Claim] | None = None
        self._runner = Runner(self)
        self._admission = None if gate is None else Admission(self.keys, gate, self._runner.call_of)
        self._claimer = Claimer(
            self.keys,
            worker_id=self.id,
            lease_ms=lease_ms,
            default_life_ms=self.expires_extra_ms,
            look_at_aborts=self.allow_abort_jobs,
            admission=self._admission,
        )
        self._aborts = Aborts(self.keys, worker_id=self.id)
        self._heartbeat = Heartbeat(self, every_s=renew_s)
        self._scripts: Scripts | None = None
        self._waker: Waker | None = None
        self.in_main = False
        """Claiming, or waiting for what to claim."""
        self._left = asyncio.Event()
        self._left.set()
        self._closing = False
        self._wake_event = WakeEvent()
        self._batch_s: Final = commit_ms / 1000
        self._full_claim: Final = max(SMALLEST_FULL_CLAIM, -(-self.max_jobs // 2))
        self._slots_worth_a_claim: Final = max(1, min(64, self.max_jobs // 8))
        self._slot_timer: asyncio.TimerHandle | None = None
        self._waits_for_slots = False
        self._more_due = False
        self._queued: int | None = None
        self._next_due_at = float("inf")
        self._next_tick_at = 0.0
        self._tick_s: Final = max(self.poll_delay_s, MIN_TICK_S)
        self._backoff_s = 0.0

    # The worker's life

    async def main(self) -> None:
        """Connects, then claims and runs jobs until it is told to stop, or (burst) until the queue is empty."""
        scripts = await self._open()
        logger.info("Starting worker for %d functions: %s", len(self.functions), ", ".join(self.functions))
        await check_server(self.pool)
        self.ctx["redis"] = self.pool
        self.ctx["keys"] = self.keys
        if self._admission is not None:
            await self._admission.open(self.pool)
        if self.on_startup:
            await self.on_startup(self.ctx)
        self.in_main = True
        self._left.clear()
        self._next_tick_at = 0.0
        self._waker = Waker(self.pool, self.keys, self._wake_event)
        self._heartbeat.start(scripts)
        try:
            await self._work(scripts)
        finally:
            self.in_main = False
            try:
                await self._leave()
            finally:
                self._left.set()

    async def _open(self) -> Scripts:
        if self._pool is None:
            self._pool = await create_pool(
                self.redis_settings,
                job_deserializer=self.job_deserializer,
                job_serializer=self.job_serializer,
                default_queue_name=self.queue_name,
                expires_extra_ms=self.expires_extra_ms,
            )
        if self._scripts is None:
            self._scripts = await Scripts.open(
                self._pool,
                timeout_s=max(self.lease_s, 5.0),
                heartbeat_timeout_s=max(self.renew_s, MIN_HEARTBEAT_TIMEOUT_S),
            )
            self.committer.use(self._scripts.commit)
        return self._scripts

    async def _work(self, scripts: Scripts) -> None:
        served = False
        while not (self.stopping or self._closing):
            raise_if_cancelled()
            try:
                await self._poll_iteration()
                if self.burst and await self._burst_is_over():
                    return
            except REDIS_ERRORS as problem:
                if not served and lacks_rights(problem):
                    raise  # an operator's mistake, which waiting does not mend
                await self._back_off(problem)
                continue
            served = True
            self._note_redis_is_there()
            await self._wait_for_work(scripts)

    async def _leave(self) -> None:
        """The claiming is over. Runs may go on, and their leases with them: `close` sees to those."""
        if self._waker is not None:
            await self._waker.aclose()
            self._waker = None
        if not self.running_count:
            await self._heartbeat.stop()
            if not self.stopping and not self._closing:  # a burst that is over: arq's health key stays until `close`
                await self._heartbeat.leave(closing=False)

    async def close(self) -> None:
        """Ends what runs as `stop.drain` says, signs off, then closes all connections.

        With Redis away or hung it gives up after some seconds on what it has to say; `on_shutdown` is called anyway.
        """
        if not self._handle_signals:
            self.handle_sig(signal.SIGUSR1)
        if not self._pool:
            return
        self._closing = True
        self._wake_event.ring()
        await self._left.wait()
        try:
            try:
                await drain(self)
                await self._heartbeat.stop()
                await self._heartbeat.leave(closing=True)
            finally:
                if self.on_shutdown:
                    await self.on_shutdown(self.ctx)
        finally:
            self._scripts = None
            self._closing = False
            await self.pool.aclose(close_connection_pool=True)
            self._pool = None

    # Claiming

    @property
    def burst_is_limited(self) -> bool:
        return self.burst and self.max_burst_jobs >= 0

    async def _poll_iteration(self) -> None:
        """One turn: claim what there are slots for, start it, and now and then look at what is not pushed."""
        scripts = await self._open()
        now = self.loop.time()
        if len(self.leases) and now - self.leases.renewed_at > (self.renew_s + self.lease_s) / 2:
            # The loop was blocked, or Redis away: claiming before this could take jobs that still run here.
            await self.leases.renew(scripts.renew)
        count = self._claim_count()
        if count > 0 or self.claiming is not None:
            await self._claim(scripts, count)
        else:
            self._queued = None
            if self._waker is not None and self._waker.token_taken:
                self._waker.token_taken = False
                await scripts.pass_wake((self.keys.pending, self.keys.wake), ("",))
        if now >= self._next_tick_at:
            self._next_tick_at = now + self._tick_s
            if self.allow_abort_jobs and await self._aborts.look(scripts.aborts, self.leases):
                self._more_due = True
            async with asyncio.timeout(HEART_BEAT_TIMEOUT_S):  # arq's own calls: a stop would wait for them
                await self.heart_beat()

    def _claim_count(self) -> int:
        """How many jobs to ask for now."""
        if not self.allow_pick_jobs or self.stopping or self.committer.claims_wait:
            return 0
        if self.committer.waiting_bytes > MAX_UNCOMMITTED_BYTES or self.committer.backlog > 2 * self.max_jobs + 1000:
            return 0
        count = min(self.max_jobs - self.running_count, self.queue_read_limit, self._full_claim, MAX_JOBS_A_CALL)
        if self.burst_is_limited:
            count = min(count, self.max_burst_jobs - self._jobs_started())
        return count

    async def _claim(self, scripts: Scripts, count: int) -> None:
        if self._waker is not None:
            self._waker.token_taken = False
        claiming = self.claiming or self._ask(scripts, count)
        try:
            # A task of its own: if the worker is stopped meanwhile, what was claimed must be heard of and given back.
            claim = await asyncio.shield(claiming)
        except REDIS_ERRORS:
            self.claiming = None
            raise
        self.claiming = None
        self._more_due = claim.more
        self._queued = claim.queued
        self._next_due_at = float("inf") if claim.next_due_s is None else self.loop.time() + claim.next_due_s
        self._hold(claim.leases)
        await self._ask_ahead(scripts)
        for lease in claim.leases:
            self._start(lease)

    def _ask(self, scripts: Scripts, count: int, on_sent: Callable[[], None] | None = None) -> asyncio.Task[Claim]:
        call = self._claimer.claim(scripts, count, on_sent=on_sent)
        self.claiming = self.loop.create_task(call, name="fetchq-claim")
        return self.claiming

    async def _ask_ahead(self, scripts: Scripts) -> None:
        """Asks for the next jobs before these are started, so that Redis and this process work at the same time."""
        count = self._claim_count()
        if self._more_due and count >= self._slots_worth_a_claim and not self.burst_is_limited:
            sent: asyncio.Future[None] = self.loop.create_future()
            claiming = self._ask(scripts, count, on_sent=lambda: None if sent.done() else sent.set_result(None))
            await asyncio.wait((sent, claiming), return_when=asyncio.FIRST_COMPLETED)

    def _hold(self, leases: list[Lease]) -> None:
        """Takes slots for these jobs. Should the worker be stopped before they are started, they are given back."""
        for lease in leases:
            self.leases.add(lease)
        self.running_count += len(leases)

    def _start(self, lease: Lease) -> None:
        task = self.loop.create_task(self._runner.run(lease))
        lease.task = task
        self.tasks[lease.id] = task

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Claims and starts those of `job_ids` that are due and free, as far as there are slots."""
        scripts = await self._open()
        count = min(self.max_jobs - self.running_count, MAX_JOBS_A_CALL)
        if count > 0 and job_ids:
            claim = await self._claimer.claim(scripts, count, only=list(dict.fromkeys(job_ids))[:MAX_JOBS_A_CALL])
            self._hold(claim.leases)
            for lease in claim.leases:
                self._start(lease)
            self._heartbeat.start(scripts)

    @property
    def clock_behind_s(self) -> float:
        """By how much this machine's clock is behind Redis's, to some ms."""
        return self._claimer.clock_behind_s

    async def admit_late(self, lease: Lease) -> bool:
        """Whether a job whose limit key had to be looked up may go on. If not it waits in the key's queue already."""
        if self._admission is None:
            return True
        return await self._admission.wait_admitted(await self._open(), lease)

    def on_run_end(self, lease: Lease) -> None:
        """A run is over, and its slot free."""
        self.running_count -= 1
        self.leases.discard(lease)
        if self.tasks.get(lease.id) is lease.task:
            del self.tasks[lease.id]
        if self._waits_for_slots:
            # Slots that become free one by one are filled together: a call for each would be most of the work.
            if self.max_jobs - self.running_count >= self._slots_worth_a_claim:
                self._wake_event.ring()
            elif self._slot_timer is None:
                self._slot_timer = self.loop.call_later(self._batch_s, self._wake_event.ring)
        elif not self.in_main and not self.running_count:
            self._heartbeat.stop_soon()

    def _on_commit(self, next_due_s: float | None) -> None:
        """A commit is done; the first of the jobs that it put back, or made room for, is due after `next_due_s`."""
        if next_due_s is not None:
            now = self.loop.time()
            if next_due_s <= 0 or now + next_due_s < self._next_due_at:
                self._next_due_at = min(self._next_due_at, now + next_due_s)
                self._wake_event.ring()
        elif self.burst or self._waits_for_slots:
            self._wake_event.ring()

    # Waiting

    async def _wait_for_work(self, scripts: Scripts) -> None:
        """Returns when there is a reason for another turn."""
        now = self.loop.time()
        until = self._next_tick_at
        slots = self._claim_count()
        if self.claiming is not None or (self._more_due and slots >= self._slots_worth_a_claim):
            return
        if slots <= 0 or self._more_due:
            self._waits_for_slots = True
            if slots > 0:
                until = min(until, now + self._batch_s)
        else:
            until = min(until, self._next_due_at)
            if self._waker is not None and not self.burst:
                self._waker.listen()
        try:
            await self._wake_event.wait(max(0.0, until - now))
        finally:
            self._waits_for_slots = False
            if self._slot_timer is not None:
                self._slot_timer.cancel()
                self._slot_timer = None
            if self._waker is not None:
                self._waker.rest()

    async def _burst_is_over(self) -> bool:
        if 0 <= self.max_burst_jobs <= self._jobs_started():
            await self._finish_running()
            return True
        if self._queued == 0 and await self.pool.zcard(self.queue_name) == 0:
            await self._finish_running()
            return True
        return False

    async def _finish_running(self) -> None:
        await asyncio.gather(*self.tasks.values())
        await self.committer.flush()

    # Redis away

    async def _back_off(self, problem: Exception) -> None:
        if not self._backoff_s:
            self._backoff_s = FIRST_BACKOFF_S
            engine_logger.warning("redis.away: %s", problem or type(problem).__name__)
        await self._wake_event.wait(self._backoff_s)
        self._backoff_s = min(2 * self._backoff_s, MAX_BACKOFF_S)

    def _note_redis_is_there(self) -> None:
        if self._backoff_s:
            self._backoff_s = 0.0
            engine_logger.warning("redis.back")

    # Signals

    def handle_sig(self, signum: Signals) -> None:
        """Stops at once: what runs is cancelled and given back, its try not counted."""
        self.stopping = True
        super().handle_sig(signum)
        keep_cancelling(self.main_task, lambda: self.in_main)
        self._wake_event.ring()

    async def _wait_for_tasks_to_complete(self, signum: Signals) -> None:
        """The time of grace: `job_completion_wait` at most, less if everything is done before."""
        until = self.loop.time() + self._job_completion_wait
        while (left_s := until - self.loop.time()) > 0:
            running: set[asyncio.Task[Any]] = set(self.tasks.values())
            if self.claiming is not None and not self.claiming.done():
                running.add(self.claiming)  # what a claim under way brings is started, and has the time of grace too
            if not running:
                break
            await asyncio.wait(running, timeout=left_s)
        self.stopping = True
        self._wake_event.ring()
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


def _signature() -> inspect.Signature:
    """What the constructor really takes: arq's `get_kwargs` picks a settings class's attributes by it."""
    own = [p for p in inspect.signature(Worker.__init__).parameters.values() if p.name != "self"]
    inherited = [p for p in inspect.signature(arq.worker.Worker).parameters.values() if p.name != "functions"]
    named = [p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
    return inspect.Signature([*named, *inherited])


Worker.__signature__ = _signature()  # type: ignore[attr-defined]  # `inspect.signature` looks here first
