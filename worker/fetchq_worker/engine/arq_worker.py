"""`arq.worker.Worker` as a base class: what arq's users and tools read, wrap and override works with the engine.

The engine runs and finishes jobs in its own way, and calls `run_job`, `finish_job` and `finish_failed_job` only where
one of them is wrapped or overridden. Tools such as Sentry's wrap the functions of arq's class, before or after this
module is imported, and their wrappers hold arq's function itself. So this module gives these functions new code, which
calls a method of the worker: arq's code in a stock worker, the engine's in ours.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import time
from collections.abc import Iterator
from contextvars import ContextVar
from types import FunctionType
from typing import Any, Final

import arq.worker
from arq.utils import to_ms

from fetchq.telemetry.ends import end_field
from fetchq_worker.engine.queue.commit import Committer
from fetchq_worker.engine.queue.lease import Lease, Leases
from fetchq_worker.engine.queue.outcome import ENDING, Action, Outcome
from fetchq_worker.engine.run.job import Job
from fetchq_worker.engine.run.raised import is_the_jobs
from fetchq_worker.engine.run.runner import Runner
from fetchq_worker.engine.run.snooze import tell_sentry
from fetchq_worker.telemetry.telemetry import KEY, Telemetry

logger = logging.getLogger("fetchq.engine")

_STOCK: Final[type[arq.worker.Worker]] = arq.worker.Worker.__mro__[-2]
"""arq's own class, also where `arq.worker.Worker` names another one already."""
NOT_CALLED: Final = {
    "start_jobs": "the engine claims jobs in batches; use on_job_start, or override run_job",
    "_cancel_aborted_jobs": "the engine looks for aborted jobs itself; use on_job_end",
    "_release_sem_dec_counter_on_complete": "the engine counts its slots itself; use on_job_end",
    "_sleep_until_tasks_complete": "the engine waits for its runs itself; override handle_sig_wait_for_completion",
}
"""arq's methods that the engine does not call, and what to use in their place."""
_OWN: Final = "the engine has its own; override that of fetchq_worker.Worker"


async def _run_job(self: Any, job_id: str, score: int) -> None:
    await self._arq_run_job(job_id, score)


async def _finish_job(  # noqa: PLR0917 - arq's
    self: Any,
    job_id: str,
    finish: bool,
    result_data: bytes | None,
    result_timeout_s: float | None,
    keep_result_forever: bool,
    incr_score: int | None,
    keep_in_progress: float | None,
) -> None:
    await self._arq_finish_job(
        job_id, finish, result_data, result_timeout_s, keep_result_forever, incr_score, keep_in_progress
    )


async def _finish_failed_job(self: Any, job_id: str, result_data: bytes | None) -> None:
    await self._arq_finish_failed_job(job_id, result_data)


def _route(method: Any) -> FunctionType | None:
    """Gives arq's function of that name the code of `method`. Its own becomes the method `_arq_...` of arq's class.

    Returns the function; None if it cannot be found, since it was replaced before this module was imported.
    """
    name = method.__name__.removeprefix("_")
    function = _function_of_arq(name)
    if function is None:
        logger.warning("worker.method_replaced method=%s: import fetchq_worker before what replaces arq's", name)
    elif not hasattr(_STOCK, f"_arq_{name}"):
        stock = FunctionType(function.__code__, function.__globals__, f"_arq_{name}", function.__defaults__)
        stock.__qualname__ = f"Worker._arq_{name}"
        setattr(_STOCK, f"_arq_{name}", stock)
        function.__code__ = method.__code__
    return function


def _function_of_arq(name: str) -> FunctionType | None:
    """The function that arq defines, not a wrapper of it."""
    function = vars(_STOCK)[name]
    if _is_of_arq(function):
        return function  # type: ignore[no-any-return]
    for each in gc.get_objects():  # a wrapper can hold it in a closure, an attribute, or an object of C
        if _is_of_arq(each) and each.__qualname__ == f"Worker.{name}":
            return each  # type: ignore[no-any-return]
    return None


def _is_of_arq(function: object) -> bool:
    return type(function) is FunctionType and function.__globals__ is vars(arq.worker)


_ROUTED: Final = {method.__name__[1:]: _route(method) for method in (_run_job, _finish_job, _finish_failed_job)}


class _Run:
    """A run that `run_job` is called for."""

    __slots__ = ("lease", "started")

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.started = False


_RUN: ContextVar[_Run | None] = ContextVar("fetchq_run", default=None)
"""A context variable: a wrapper may call `run_job` in a task of its own, and a lost run of the same job may exist."""


class ArqWorker(arq.worker.Worker):
    """arq's worker on the engine's runs."""

    committer: Committer
    leases: Leases
    _runner: Runner

    def __init__(self, *arguments: Any, telemetry: Telemetry, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.telemetry: Final = telemetry
        self.ctx[KEY] = telemetry
        self.job_tasks = self.tasks
        self._unfinished: dict[str, Outcome] = {}
        """The outcomes for which `finish_job` or `finish_failed_job` is called."""
        for name, where, advice in overrides_not_called(type(self)):
            logger.warning("worker.override_not_called method=%s in=%s: %s", name, where, advice)

    @property
    def job_counter(self) -> int:
        """How many jobs this worker runs."""
        return self.running_count

    @job_counter.setter
    def job_counter(self, count: int) -> None:
        """arq's constructor sets it to 0."""

    @property
    def sem(self) -> asyncio.BoundedSemaphore:
        """A semaphore that shows the free slots as arq's does: one more than there are. The worker does not use it."""
        return asyncio.BoundedSemaphore(max(0, self.max_jobs + 1 - self.running_count))

    @sem.setter
    def sem(self, semaphore: asyncio.BoundedSemaphore) -> None:
        """arq's constructor sets it."""

    @property
    def running_count(self) -> int:
        raise NotImplementedError

    def on_run_end(self, lease: Lease) -> None:
        raise NotImplementedError

    @property
    def logs_events(self) -> bool:
        """Whether the start, and each job that fails for good, are logged as fetchq's events, in place of arq's."""
        return self.telemetry.events.log.is_on

    @logs_events.setter
    def logs_events(self, is_on: bool) -> None:
        self.telemetry.events.log.is_on = is_on

    def runs_by_arqs_methods(self) -> bool:
        """Whether one of the methods is wrapped or overridden, in a class or on this worker."""
        kind = type(self)
        return (
            kind.run_job is not _ROUTED["run_job"] or not self.__dict__.keys().isdisjoint(_ROUTED)
        ) or self._finishes_by_arqs_methods()

    def _finishes_by_arqs_methods(self) -> bool:
        kind = type(self)
        return (
            kind.finish_job is not _ROUTED["finish_job"]
            or kind.finish_failed_job is not _ROUTED["finish_failed_job"]
            or "finish_job" in self.__dict__
            or "finish_failed_job" in self.__dict__
        )

    async def run_by_arqs_methods(self, lease: Lease) -> None:
        """Runs a job by `self.run_job`, as arq does. An exception of the override ends this run alone."""
        tell_sentry()
        run = _Run(lease)
        _RUN.set(run)
        try:
            await self.run_job(lease.id, lease.score)
            if not run.started:
                logger.warning("worker.job_not_run job=%s: run_job returned without a call of arq's", lease.id)
                # arq runs it again when its in-progress key ends, after that time.
                self.committer.add(Outcome(lease, Action.RETRY, defer_ms=round(self.in_progress_timeout_s * 1000)))
        except asyncio.CancelledError:
            if not run.started:
                self._runner.requeue(lease)
            raise
        except BaseException as problem:
            if not is_the_jobs(problem, lease.task):
                raise
            logger.exception("worker.run_job_failed job=%s", lease.id)
            if not run.started:
                self.committer.add(self._runner.refuse(lease, problem))
        finally:
            if not run.started:
                lease.job = None
                self.on_run_end(lease)

    async def _arq_run_job(self, job_id: str, score: int) -> None:
        """Where `run_job` ends. Outside of a run that this worker started, it does what arq's does."""
        run = _RUN.get()
        if run is None or run.lease.id != job_id:
            await super()._arq_run_job(job_id, score)  # type: ignore[misc]  # `_route` adds it
        elif not run.started:
            run.started = True
            await self._runner.run(run.lease, finish=self._finish if self._finishes_by_arqs_methods() else None)

    async def _finish(self, outcome: Outcome, *, refused: bool) -> None:
        """Finishes a job by arq's methods. What an override does not pass on is committed all the same."""
        job_id = outcome.lease.id
        self._unfinished[job_id] = outcome
        try:
            if refused:
                await self.finish_failed_job(job_id, outcome.result or None)
            else:
                await self.finish_job(*_arguments_of_finish(outcome))
        except Exception:
            logger.exception("worker.finish_job_failed job=%s", job_id)
        finally:
            if self._unfinished.get(job_id) is outcome:
                del self._unfinished[job_id]
                if outcome.action in ENDING:
                    outcome.action = Action.MISSING  # a result that the override stored stays
                self.committer.add(outcome)

    async def _arq_finish_job(  # noqa: PLR0917 - arq's
        self,
        job_id: str,
        finish: bool,
        result_data: bytes | None,
        result_timeout_s: float | None,
        keep_result_forever: bool,
        incr_score: int | None,
        keep_in_progress: float | None,
    ) -> None:
        """Where `finish_job` ends: commits the outcome with what an override made of arq's arguments."""
        outcome = self._unfinished.pop(job_id, None)
        if outcome is None:
            await super()._arq_finish_job(  # type: ignore[misc]  # `_route` adds it
                job_id, finish, result_data, result_timeout_s, keep_result_forever, incr_score, keep_in_progress
            )
            return
        if finish != (outcome.action in ENDING):
            outcome.action, outcome.dead_letter = Action.FINISH if finish else Action.RETRY, b""
            outcome.figure = end_field(_function_of(outcome.lease), success=False, value=None)
        outcome.result = result_data or b""
        outcome.result_ttl_ms = None if keep_result_forever else to_ms(result_timeout_s) or 0
        outcome.defer_ms = max(0, incr_score - _late_ms(outcome.lease)) if incr_score else None
        outcome.marker_ms = to_ms(keep_in_progress)
        await self._commit(outcome)

    async def _arq_finish_failed_job(self, job_id: str, result_data: bytes | None) -> None:
        """Where `finish_failed_job` ends."""
        outcome = self._unfinished.pop(job_id, None)
        if outcome is None:
            await super()._arq_finish_failed_job(job_id, result_data)  # type: ignore[misc]  # `_route` adds it
            return
        outcome.result = result_data or b""
        await self._commit(outcome)

    async def _commit(self, outcome: Outcome) -> None:
        self.committer.add(outcome, now=self.running_count <= 1)
        self.leases.discard(outcome.lease)  # so that a worker that stops before the commit does not requeue the job
        await self.committer.wait_committed(outcome)


def _arguments_of_finish(
    outcome: Outcome,
) -> tuple[str, bool, bytes | None, float | None, bool, int | None, float | None]:
    ttl_ms, marker_ms = outcome.result_ttl_ms, outcome.marker_ms
    return (
        outcome.lease.id,
        outcome.action in ENDING,
        outcome.result or None,
        None if ttl_ms is None else ttl_ms / 1000,
        ttl_ms is None,
        outcome.defer_ms + _late_ms(outcome.lease) if outcome.defer_ms else None,
        None if marker_ms is None else marker_ms / 1000,
    )


def _function_of(lease: Lease) -> str | None:
    """The function that a job runs; None if it cannot be decoded."""
    return lease.job.name if isinstance(lease.job, Job) else None


def _late_ms(lease: Lease) -> int:
    """How long ago the job was due. arq counts a delay from there."""
    return int(time.time() * 1000) - lease.score


def overrides_not_called(kind: type[ArqWorker]) -> Iterator[tuple[str, str, str]]:
    """Each method of arq that was overridden or wrapped without effect: its name, where, and what to use instead."""
    ours: set[str] = set()
    for each in reversed(kind.__mro__[: kind.__mro__.index(ArqWorker) + 1]):
        if each.__module__.startswith("fetchq_worker."):
            ours |= vars(each).keys()
            continue
        for name in NOT_CALLED.keys() & vars(each).keys():
            yield name, f"{each.__module__}.{each.__qualname__}", NOT_CALLED[name]
    for name in NOT_CALLED.keys() | ours:
        method = vars(_STOCK).get(name)
        if callable(method) and not (name.startswith(("__", "_arq_")) or _is_of_arq(method)):
            yield name, "arq.worker.Worker", NOT_CALLED.get(name, _OWN)


def signature_of(kind: type[ArqWorker]) -> inspect.Signature:
    """The constructor's parameters and arq's, by which arq's `get_kwargs` selects attributes of a settings class."""
    own = [p for p in inspect.signature(kind.__init__).parameters.values() if p.name != "self"]
    inherited = [p for p in inspect.signature(arq.worker.Worker).parameters.values() if p.name != "functions"]
    named = [p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
    return inspect.Signature([*named, *inherited])
