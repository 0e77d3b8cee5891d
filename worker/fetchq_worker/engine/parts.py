"""The parts of a worker that belong to one event loop. A worker that runs in another one gets new parts."""

from __future__ import annotations

from typing import Final, Protocol

from arq.jobs import Serializer

from fetchq.inspect.workers import WorkerRecord
from fetchq.store.keys import Keys
from fetchq.telemetry.loop_lag import LoopLag
from fetchq_worker.engine.queue.aborts import Aborts
from fetchq_worker.engine.queue.admission import Admission
from fetchq_worker.engine.queue.claim import Claimer
from fetchq_worker.engine.queue.commit import Committer
from fetchq_worker.engine.queue.lease import Leases
from fetchq_worker.engine.queue.waits import Waits
from fetchq_worker.engine.queue.wakeup import WakeEvent
from fetchq_worker.engine.run.dead_letters import DeadLetterWriter
from fetchq_worker.engine.run.job import JobDecoder
from fetchq_worker.engine.run.result import ResultEncoder
from fetchq_worker.engine.run.runner import RunHost, Runner
from fetchq_worker.engine.upkeep.heartbeat import Heartbeat
from fetchq_worker.telemetry.telemetry import Telemetry

from .backoff import Backoff
from .claim_loop import ClaimHost, ClaimLoop


class PartsHost(ClaimHost, RunHost, Protocol):
    """The worker: its arguments, and what its parts call."""

    queue_name: str
    max_jobs: int
    expires_extra_ms: int
    allow_abort_jobs: bool
    job_serializer: Serializer | None
    keep_result_s: float
    keep_result_forever: bool

    @property
    def id(self) -> str: ...

    @property
    def keys(self) -> Keys: ...

    @property
    def lease_s(self) -> float: ...

    @property
    def renew_s(self) -> float: ...

    @property
    def telemetry(self) -> Telemetry: ...

    def new_record(self) -> WorkerRecord | None: ...


class Parts:
    """The parts of one worker for its event loop, which need not run yet."""

    def __init__(
        self,
        host: PartsHost,
        *,
        admission: Admission,
        decoder: JobDecoder,
        dead_letters: DeadLetterWriter,
        commit_s: float,
    ) -> None:
        self.loop: Final = host.loop
        measures = host.telemetry.measures
        keys, lease_ms = host.keys, max(1, round(host.lease_s * 1000))
        self.leases: Final = Leases(keys, lease_ms=lease_ms, telemetry=host.telemetry)
        self.committer: Final = self._new_committer(host, dead_letters, commit_s)
        self.backoff: Final = Backoff(host.telemetry.events)
        self.claimer: Final = Claimer(
            keys,
            worker_id=host.id,
            lease_ms=lease_ms,
            default_payload_ttl_ms=host.expires_extra_ms,
            check_aborts=host.allow_abort_jobs,
            admission=admission,
            waits=None if measures is None else Waits(measures, admission.note_due),
        )
        self.aborts: Final = Aborts(keys, worker_id=host.id)
        self.wake_event: Final = WakeEvent()
        self.claims: Final = ClaimLoop(
            host,
            claimer=self.claimer,
            leases=self.leases,
            committer=self.committer,
            wake_event=self.wake_event,
            max_jobs=host.max_jobs,
            batch_s=commit_s,
        )
        results = _result_encoder(host)
        self.runner: Final = Runner(
            host,
            keys=keys,
            decoder=decoder,
            results=results,
            dead_letters=dead_letters,
            committer=self.committer,
            events=host.telemetry.events,
        )
        self.heartbeat: Final = _heartbeat(host, self.leases, dead_letters)
        self.lag: Final = LoopLag(host.loop, lambda: host.running_count > 0)

    def _new_committer(self, host: PartsHost, dead_letters: DeadLetterWriter, commit_s: float) -> Committer:
        return Committer(
            host.keys,
            dead_letter_ttl_ms=dead_letters.ttl_ms,
            dead_letter_max=dead_letters.max_count,
            delay_s=commit_s,
            on_commit=self._on_commit,
            telemetry=host.telemetry,
            counts_ends=host.telemetry.measures is not None,
        )

    def _on_commit(self, next_due_s: float | None) -> None:
        self.claims.on_commit(next_due_s)


def _heartbeat(host: PartsHost, leases: Leases, dead_letters: DeadLetterWriter) -> Heartbeat:
    return Heartbeat(
        host.keys,
        leases,
        dead_letters,
        worker_id=host.id,
        every_s=host.renew_s,
        default_payload_ttl_ms=host.expires_extra_ms,
        record=host.new_record,
        reports=host.telemetry.reports,
    )


def _result_encoder(host: PartsHost) -> ResultEncoder:
    return ResultEncoder(
        host.job_serializer, queue=host.queue_name, keep_s=host.keep_result_s, keep_forever=host.keep_result_forever
    )
