"""The claim loop: when a worker claims, how many jobs it claims, and how long it waits in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from fetchq.store.errors import REDIS_ERRORS
from fetchq.store.runner import MAX_JOBS_A_CALL, ScriptRunner, ScriptRunners
from fetchq_worker.engine.queue.claim import Claim, Claimer
from fetchq_worker.engine.queue.commit import Committer
from fetchq_worker.engine.queue.lease import Lease, Leases
from fetchq_worker.engine.queue.wakeup import WakeEvent, Waker

SMALLEST_FULL_CLAIM: Final = 32
MAX_UNCOMMITTED_BYTES: Final = 64 << 20


class ClaimHost(Protocol):
    """The worker, as its claim loop sees it."""

    burst: bool
    loop: asyncio.AbstractEventLoop

    @property
    def burst_is_limited(self) -> bool: ...

    def claim_limit(self) -> int:
        """The number of jobs that the worker may claim now, regardless of its free slots."""

    def start_runs(self, leases: Sequence[Lease]) -> None:
        """Starts the runs of leased jobs, each in its own task."""


class ClaimLoop:
    """Claims jobs for the free slots of one worker and starts their runs."""

    def __init__(
        self,
        host: ClaimHost,
        *,
        claimer: Claimer,
        leases: Leases,
        committer: Committer,
        wake_event: WakeEvent,
        max_jobs: int,
        batch_s: float,
    ) -> None:
        """`batch_s`: how long a free slot may stay empty so that several are filled by one claim."""
        self._host = host
        self._claimer = claimer
        self._leases = leases
        self._committer = committer
        self._wake_event = wake_event
        self._max_jobs: Final = max_jobs
        self._batch_s: Final = batch_s
        self._full_claim: Final = min(max(SMALLEST_FULL_CLAIM, -(-max_jobs // 2)), MAX_JOBS_A_CALL)
        self._slots_worth_a_claim: Final = max(1, min(64, max_jobs // 8))
        self.running = 0
        """How many runs hold a slot. A lost run of a job can still hold one while the job's new run holds another."""
        self.claiming: asyncio.Task[Claim] | None = None
        """The claim in flight."""
        self.queued: int | None = None
        """The number of jobs in the queue at the last claim; None if the last iteration made no claim."""
        self.waker: Waker | None = None
        self._more_due = False
        self._next_due_at = float("inf")
        self._waits_for_slots = False
        self._slot_timer: asyncio.TimerHandle | None = None

    async def claim(self, scripts: ScriptRunners) -> None:
        """Claims jobs for the free slots and starts them."""
        count = self._count()
        if count > 0 or self.claiming is not None:
            await self._claim(scripts.jobs, count)
            return
        self.queued = None
        if self.waker is not None and self.waker.token_taken:
            await self.waker.pass_on(scripts.heartbeat)

    async def claim_only(self, runner: ScriptRunner, job_ids: Sequence[bytes]) -> bool:
        """Claims and starts those of `job_ids` that are due and free, as far as there are slots."""
        count = min(self._max_jobs - self.running, MAX_JOBS_A_CALL)
        if count <= 0 or not job_ids:
            return False
        claim = await self._claimer.claim(runner, count, only=list(dict.fromkeys(job_ids))[:MAX_JOBS_A_CALL])
        self._hold(claim.leases)
        self._host.start_runs(claim.leases)
        return True

    def expect_due_jobs(self) -> None:
        """A waiting job may have become due."""
        self._more_due = True

    def on_run_end(self, lease: Lease) -> None:
        """Frees the slot of a run."""
        self.running -= 1
        self._leases.discard(lease)
        if self._waits_for_slots:
            # Slots that become free one by one are filled together: a claim for each would cost more than the jobs.
            if self._max_jobs - self.running >= self._slots_worth_a_claim:
                self._wake_event.set()
            elif self._slot_timer is None:
                self._slot_timer = self._host.loop.call_later(self._batch_s, self._wake_event.set)

    def on_commit(self, next_due_s: float | None) -> None:
        """A commit made jobs due again, the first of them after `next_due_s`; None: no job."""
        if next_due_s is not None:
            now = self._host.loop.time()
            if next_due_s <= 0 or now + next_due_s < self._next_due_at:
                self._next_due_at = min(self._next_due_at, now + next_due_s)
                self._wake_event.set()
        elif self._host.burst or self._waits_for_slots:
            self._wake_event.set()

    async def wait(self, until: float) -> None:
        """Returns when there may be jobs to claim, at the latest at `until` on the loop's clock."""
        now = self._host.loop.time()
        slots = self._count()
        if self.claiming is not None or (self._more_due and slots >= self._slots_worth_a_claim):
            return
        if slots <= 0 or self._more_due:
            self._waits_for_slots = True
            if slots > 0:
                until = min(until, now + self._batch_s)
        else:
            until = min(until, self._next_due_at)
            if self.waker is not None and not self._host.burst:
                self.waker.listen()
        try:
            await self._wake_event.wait(max(0.0, until - now))
        finally:
            self._waits_for_slots = False
            if self._slot_timer is not None:
                self._slot_timer.cancel()
                self._slot_timer = None
            if self.waker is not None:
                self.waker.stop_listening()

    def _count(self) -> int:
        """How many jobs to claim now."""
        committer = self._committer
        if committer.claims_wait or committer.waiting_bytes > MAX_UNCOMMITTED_BYTES:
            return 0
        if committer.backlog > 2 * self._max_jobs + 1000:
            return 0
        return min(self._max_jobs - self.running, self._full_claim, self._host.claim_limit())

    async def _claim(self, runner: ScriptRunner, count: int) -> None:
        if self.waker is not None:
            self.waker.token_taken = False
        claiming = self.claiming or self._send_claim(runner, count)
        try:
            # In its own task: if the worker is stopped meanwhile, the reply is still read and its jobs are requeued.
            claim = await asyncio.shield(claiming)
        except REDIS_ERRORS:
            self.claiming = None
            raise
        self.claiming = None
        self._more_due = claim.more
        self.queued = claim.queued
        self._next_due_at = float("inf") if claim.next_due_s is None else self._host.loop.time() + claim.next_due_s
        self._hold(claim.leases)
        await self._claim_ahead(runner)
        self._host.start_runs(claim.leases)

    def _send_claim(
        self, runner: ScriptRunner, count: int, on_sent: Callable[[], None] | None = None
    ) -> asyncio.Task[Claim]:
        call = self._claimer.claim(runner, count, on_sent=on_sent)
        self.claiming = self._host.loop.create_task(call, name="fetchq-claim")
        return self.claiming

    async def _claim_ahead(self, runner: ScriptRunner) -> None:
        """Sends the next claim before the claimed jobs are started, so that Redis works meanwhile."""
        count = self._count()
        if self._more_due and count >= self._slots_worth_a_claim and not self._host.burst_is_limited:
            sent: asyncio.Future[None] = self._host.loop.create_future()
            claiming = self._send_claim(runner, count, lambda: None if sent.done() else sent.set_result(None))
            await asyncio.wait((sent, claiming), return_when=asyncio.FIRST_COMPLETED)

    def _hold(self, leases: list[Lease]) -> None:
        """Takes slots for these jobs. If the worker is stopped before their runs start, the jobs are requeued."""
        for lease in leases:
            self._leases.add(lease)
        self.running += len(leases)
