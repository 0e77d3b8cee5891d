"""`fetchq worker`: runs a worker until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from arq.connections import ArqRedis
from arq.typing import StartupShutdown
from redis.exceptions import RedisError

from fetchq import FetchqError, FetchStatus
from fetchq.command.exit_status import CommandFailed, ExitStatus
from fetchq.command.open_files import raise_open_files
from fetchq.command.settings import variable_of
from fetchq.logs.setup import logging_what_python_prints
from fetchq.store.address import RedisAddress
from fetchq.store.connection import connect
from fetchq.store.errors import translated
from fetchq_worker.cli.terminal.logs import configure_worker_logs
from fetchq_worker.engine import Worker
from fetchq_worker.engine.run.raised import own_cancellation, told
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.gc_tuning import tune_gc
from fetchq_worker.process.http.listen import answering
from fetchq_worker.process.http.supervisor import supervisor_handlers
from fetchq_worker.process.http.worker import load_prometheus, supervised_handlers, worker_handlers
from fetchq_worker.process.open_files import warn_of_few_files
from fetchq_worker.process.settings_object import SettingsObject
from fetchq_worker.process.supervisor import Report, Supervisor, SupervisorLink
from fetchq_worker.settings import LogJobs, Settings

_log = logging.getLogger("fetchq.worker")

_OPTION_OF: Final = {
    "queue": "queue_name",
    "namespace": "namespace",
    "concurrency": "max_jobs",
    "grace_s": "job_completion_wait",
    "lease_s": "lease_s",
    "start_wait_s": "start_wait_s",
    "dead_letter_ttl_s": "dead_letter_ttl_s",
    "metrics": "metrics",
    "traces": "traces",
}
"""Settings by the name of the worker's argument."""


def work(
    settings_name: str | None, burst: bool, flags: Mapping[str, Any], settings: Settings
) -> Coroutine[Any, Any, ExitStatus]:
    """Runs one worker in this process, or several in child processes; see `_work`."""
    described: SettingsObject | None = None
    link = SupervisorLink()
    is_supervisor = settings.processes > 1 and not link.is_supervised
    if settings_name is not None and not is_supervisor:
        _into_environment(flags)
        with link.reporting_errors(), _telling(f"--settings: {settings_name}", Exception, SystemExit):
            described = SettingsObject.load(settings_name)
    # After the settings module, which may set up logging itself.
    log_jobs = LogJobs.ALL if settings.verbose and "log_jobs" not in flags else settings.log_jobs
    configure_worker_logs(settings.log_level, log_format=settings.log_format, log_jobs=log_jobs)
    if is_supervisor:
        return _supervise(settings)

    async def reported() -> ExitStatus:
        # For other commands, an `OSError` would be one of stdout.
        with logging_what_python_prints(), _telling("the worker", OSError), link.reporting_errors():
            return await _work(described, burst, flags, settings, link)

    return reported()


async def _supervise(settings: Settings) -> ExitStatus:
    supervisor = Supervisor(sys.orig_argv, settings.processes, grace_s=settings.grace_s)
    async with answering(supervisor_handlers(supervisor), settings.keys, http=settings.http):
        status = await supervisor.run()
    return ExitStatus(status) if status in set(ExitStatus) else ExitStatus.FAILED


async def _work(
    described: SettingsObject | None, burst: bool, flags: Mapping[str, Any], settings: Settings, link: SupervisorLink
) -> ExitStatus:
    """Returns after SIGTERM or SIGINT, or in a burst when the queue is empty.

    `flags` are the settings given on the command line: they outrank those of `described`.
    Raises `RedisUnavailable` if Redis cannot be reached within `start_wait_s`; a worker that runs waits for it longer.
    """
    link.stop_with_supervisor()
    raise_open_files()
    address = RedisAddress.parse(settings.redis_url)
    # A settings object for another framework may have handle_signals=False; here nothing else would stop the worker.
    options: dict[str, Any] = {"handle_signals": True}
    if described is None:
        options["burst"] = burst
        # No redis_settings: arq cannot express all addresses.
        described = SettingsObject("the settings", worker_settings(settings=settings, redis_pool=None))
    else:
        options |= _options(flags, settings) | ({"burst": burst} if "burst" in flags else {})
    given = "redis_url" in flags
    redis = connect(address, redis_class=ArqRedis) if given else await described.open_redis(otherwise=address)
    try:
        worker = described.make_worker(redis, **options)
        worker.logs_events = True
        worker.stop.again_hurries = not link.is_supervised
        link.report_grace(worker.stop.grace_s)
        warn_of_few_files(worker.max_jobs)
        if settings.http:
            load_prometheus()
        tune_gc()
        handlers = supervised_handlers(worker) if link.is_supervised else worker_handlers(worker)
        async with answering(handlers, worker.keys, http=settings.http, supervised=link.is_supervised):
            failure = await _run(worker)
    finally:
        if redis is not None:
            await redis.aclose()
    is_over = worker.burst and not worker.stopping
    link.report(Report.STOPPED if worker.stop.requested else Report.FINISHED if is_over else Report.ENDED)
    if failure is not None:
        raise failure
    return ExitStatus.OK


async def _run(worker: Worker) -> CommandFailed | None:
    """Raises `CommandFailed` for what `on_startup` raises, and returns it for what ended a worker that had started."""
    redis, failure = worker.pool, None
    worker.on_startup = _hook(worker, "on_startup")
    on_shutdown = _hook(worker, "on_shutdown")

    async def shut_down(ctx: dict[Any, Any]) -> None:
        nonlocal failure
        try:
            await on_shutdown(ctx)
        except CommandFailed as problem:
            failure = problem

    worker.on_shutdown = shut_down
    try:
        await worker.async_run()
    except RedisError:  # raised only before the worker starts claiming
        with translated(redis):
            raise
    except asyncio.CancelledError:
        if not worker.stop.requested:  # else it is how the worker's own signal handler ends its run
            failure = CommandFailed("the worker's main task was cancelled, by a job or a hook", ExitStatus.FAILED)
            _log.error("worker.failed in=main error=%s", failure)
    finally:
        await worker.close()
        if worker.telemetry.traces is not None:
            await worker.telemetry.traces.flush()
        worker.stop.end_process()
        if worker.started:
            _log.info("worker.stopped id=%s %s", worker.id, _counts(worker))
    return failure


def _hook(worker: Worker, name: str) -> StartupShutdown:
    """The hook of that name, from which an exception of whatever class arrives as `CommandFailed`, logged."""
    hook: StartupShutdown | None = getattr(worker, name)

    async def call(ctx: dict[Any, Any]) -> None:
        if hook is None:
            return
        with _telling(name, BaseException):
            try:
                await hook(ctx)
            except asyncio.CancelledError as problem:
                if worker.stop.requested:
                    raise
                raise own_cancellation(problem, of=name) from None

    return call


@contextmanager
def _telling(whose: str, *kinds: type[BaseException]) -> Iterator[None]:
    """Logs an exception of the user's code, of these kinds, and makes it the command's failure."""
    try:
        yield
    except (FetchqError, asyncio.CancelledError):  # some of ours are an `OSError` too
        raise
    except kinds as problem:
        _log.exception("worker.failed in=%s error=%s", whose, told(problem))
        raise CommandFailed(f"{whose} raised {told(problem)}", ExitStatus.FAILED) from problem


def _options(flags: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The worker's arguments that flags give."""
    options = {_OPTION_OF[name]: getattr(settings, name) for name in flags if name in _OPTION_OF}
    if "dead_letters" in flags or "dead_letter_max" in flags:
        options["dead_letter_max"] = settings.max_dead_letters
    if "job_completion_wait" in options:
        options["job_completion_wait"] = math.ceil(options["job_completion_wait"])
    return options


def _counts(worker: Worker) -> str:
    counts = f"complete={worker.jobs_complete} failed={worker.jobs_failed} retried={worker.jobs_retried}"
    outcomes: Counter[FetchStatus] = worker.ctx.get("outcomes", Counter())
    return " ".join([counts, *(f"{status}={count}" for status, count in outcomes.most_common())])


def _into_environment(flags: Mapping[str, Any]) -> None:
    """Copies the flags to `FETCHQ_*`, which the class reads when its module is imported."""
    for name in flags.keys() & set(Settings.__struct_fields__):
        value = flags[name]
        os.environ[variable_of(name)] = " ".join(value) if isinstance(value, tuple) else str(value)
