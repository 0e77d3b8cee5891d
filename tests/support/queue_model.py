"""A model of a queue in plain Python: what each script must return and change."""

from __future__ import annotations

from dataclasses import dataclass, field

from .scripted_queue import LEASE_MS


@dataclass
class ModelLease:
    token: str
    end_ms: int
    original_ms: int
    in_index: bool = True
    """Its end has not been processed by a claim."""


@dataclass
class ModelJob:
    id: str
    score_ms: int
    tries: int = 0
    lease: ModelLease | None = None
    stock_until_ms: int | None = None
    """The end of a stock worker's in-progress key."""
    mark_until_ms: int | None = None
    """The end of the engine's own in-progress key."""
    result: str | None = None

    def is_marked(self, now_ms: int) -> bool:
        return self.is_stocks(now_ms) or (self.mark_until_ms is not None and self.mark_until_ms > now_ms)

    def is_stocks(self, now_ms: int) -> bool:
        return self.stock_until_ms is not None and self.stock_until_ms > now_ms


@dataclass
class Model:
    """All jobs that were enqueued."""

    now_ms: int
    jobs: dict[str, ModelJob] = field(default_factory=dict)

    @property
    def waiting(self) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.result is None]

    def enqueue(self, job_id: str, delay_ms: int) -> None:
        self.jobs[job_id] = ModelJob(job_id, self.now_ms + delay_ms)

    def claim(self, token: str, count: int) -> list[tuple[str, int, int]]:
        """(id, score, try) of each job that a claim returns, in order."""
        self._end_leases()
        taken: list[tuple[str, int, int]] = []
        due = [job for job in self.waiting if job.score_ms <= self.now_ms]
        for job in sorted(due, key=lambda job: (job.score_ms, job.id)):
            if len(taken) == count:
                break
            lease = job.lease
            if lease is not None and lease.end_ms > self.now_ms:
                job.score_ms = lease.end_ms
            elif job.is_stocks(self.now_ms):
                continue
            else:
                score_ms = lease.original_ms if lease is not None and job.score_ms == lease.end_ms else job.score_ms
                job.tries += 1
                job.lease = ModelLease(token, self.now_ms + LEASE_MS, score_ms)
                job.score_ms = job.mark_until_ms = self.now_ms + LEASE_MS
                taken.append((job.id, score_ms, job.tries))
        return taken

    def _end_leases(self) -> None:
        for job in self.waiting:
            lease = job.lease
            if lease is not None and lease.in_index and lease.end_ms <= self.now_ms:
                lease.in_index = False
                if job.is_stocks(self.now_ms):
                    job.lease = None
                else:
                    job.score_ms = lease.original_ms

    def _held(self, job: ModelJob, token: str) -> ModelLease | None:
        """The lease that the token holds. A lease whose job a stock worker took over is removed."""
        if job.result is not None or job.lease is None or job.lease.token != token:
            return None
        if job.is_stocks(self.now_ms):
            job.lease = None
        return job.lease

    def renew(self, job_id: str, token: str) -> bool:
        job = self.jobs[job_id]
        lease = self._held(job, token)
        if lease is None:
            return False
        lease.end_ms = job.score_ms = job.mark_until_ms = self.now_ms + LEASE_MS
        lease.in_index = True
        return True

    def finish(self, job_id: str, token: str, result: str) -> bool:
        job = self.jobs[job_id]
        if self._held(job, token) is None:
            return False
        job.result, job.lease, job.mark_until_ms = result, None, None
        return True

    def requeue(self, job_id: str, token: str, *, counted: bool, defer_ms: int | None) -> bool:
        job = self.jobs[job_id]
        lease = self._held(job, token)
        if lease is None:
            return False
        job.score_ms = lease.original_ms if defer_ms is None else self.now_ms + defer_ms
        job.tries -= not counted
        job.lease = job.mark_until_ms = None
        return True

    def return_claims(self, token: str) -> int:
        """The reply of a claim was lost: its jobs go back, one that a stock worker took over too."""
        held = [job for job in self.waiting if job.lease is not None and job.lease.token == token]
        for job in held:
            assert job.lease is not None
            job.score_ms = job.lease.original_ms
            job.tries = max(0, job.tries - 1)
            job.lease = job.mark_until_ms = None
        return len(held)

    def cancel(self, job_id: str) -> int:
        """The code that the script returns: 1 cancelled, 2 it runs, 3 it is finished."""
        job = self.jobs[job_id]
        if job.result is not None:
            return 3
        if job.is_marked(self.now_ms):
            return 2
        job.result, job.lease = "cancelled", None
        return 1

    def figures(self) -> dict[str, int]:
        """What is counted. The end of a job that a stock worker ran is not."""
        results = [job.result for job in self.jobs.values() if job.result not in (None, "of stock")]
        cancelled = results.count("cancelled")
        counted = {
            "enqueued": len(self.jobs),
            "fetch:OK": len(results) - cancelled,
            "fetch:CANCELLED": cancelled,
        }
        return {field: number for field, number in counted.items() if number}
