"""What a worker says of its own state: to health checks, to other processes, and at `/metrics`."""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec
from arq.cron import CronJob
from arq.worker import Function

from fetchq.inspect.workers import WorkerRecord
from fetchq_worker.engine.queue.commit import Committer
from fetchq_worker.telemetry.events import WorkerStopped
from fetchq_worker.telemetry.process_measures import ProcessMeasures
from fetchq_worker.telemetry.telemetry import Connections, Telemetry

from .parts import Parts
from .stopping.stop import Stop


class StateHost(Protocol):
    """The worker."""

    loop: asyncio.AbstractEventLoop
    committer: Committer
    functions: dict[str, Function | CronJob]
    max_jobs: int
    in_main: bool
    jobs_complete: int
    jobs_failed: int
    jobs_retried: int

    @property
    def id(self) -> str: ...

    @property
    def telemetry(self) -> Telemetry: ...

    @property
    def stop(self) -> Stop: ...

    @property
    def is_stopping(self) -> bool: ...

    @property
    def running_count(self) -> int: ...

    @property
    def lease_s(self) -> float: ...

    @property
    def parts(self) -> Parts: ...


def why_not_ready(worker: StateHost) -> str | None:
    """Why a worker takes no jobs now; None if it does."""
    if worker.is_stopping:
        return "is stopping"
    if not worker.in_main:
        return "has not started"
    if worker.stop.quiet:
        return "is quiet"
    silent_s = worker.loop.time() - worker.parts.heartbeat.answered_at
    return f"has had no answer from Redis for {silent_s:.0f} s" if silent_s > worker.lease_s else None


def stopped(worker: StateHost) -> WorkerStopped:
    return WorkerStopped(
        worker=worker.id, complete=worker.jobs_complete, failed=worker.jobs_failed, retried=worker.jobs_retried
    )


def updated(record: WorkerRecord, worker: StateHost) -> WorkerRecord:
    """The worker's record, with what has changed."""
    return msgspec.structs.replace(
        record,
        functions=tuple(worker.functions),
        concurrency=worker.max_jobs,
        running=worker.running_count,
        state=worker.stop.state,
        completed=worker.jobs_complete,
        failed=worker.jobs_failed,
        retried=worker.jobs_retried,
    )


def measures_of(worker: StateHost) -> ProcessMeasures:
    count = worker.telemetry.connections
    connections = Connections(0, 0) if count is None else count()
    return ProcessMeasures(
        ready=why_not_ready(worker) is None,
        running_jobs=worker.running_count,
        max_jobs=worker.max_jobs,
        uncommitted_jobs=worker.committer.backlog,
        jobs_complete=worker.jobs_complete,
        jobs_failed=worker.jobs_failed,
        jobs_retried=worker.jobs_retried,
        event_loop_lag_s=worker.parts.lag.highest_s,
        redis_round_trip_s=worker.parts.heartbeat.round_trip_s,
        connections_idle=connections.idle,
        connections_active=connections.active,
    )
