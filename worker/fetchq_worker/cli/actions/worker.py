"""`fetchq worker`: runs a worker until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import importlib
import logging
import math
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from arq.connections import ArqRedis, RedisSettings
from redis.exceptions import RedisError

from fetchq import FetchStatus
from fetchq.store.address import RedisAddress
from fetchq.store.connection import connect
from fetchq.store.errors import translated
from fetchq_worker.cli.terminal.exit_status import CommandFailed, ExitStatus
from fetchq_worker.cli.terminal.logs import configure_logs
from fetchq_worker.engine import Worker
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.gc_tuning import tune_gc
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.process.supervisor import SUPERVISED_ENV, Supervisor, stop_with_supervisor
from fetchq_worker.settings import ENV_PREFIX, Settings

_log = logging.getLogger("fetchq.worker")

_OPTION_OF: Final = {
    "queue": "queue_name",
    "namespace": "namespace",
    "concurrency": "max_jobs",
    "grace_s": "job_completion_wait",
    "lease_s": "lease_s",
    "start_wait_s": "start_wait_s",
    "dead_letter_ttl_s": "dead_letter_ttl_s",
}
"""Settings by the name of the worker's argument."""


async def work(settings_name: str | None, burst: bool, flags: Mapping[str, Any], settings: Settings) -> ExitStatus:
    """Runs one worker in this process, or several in child processes; see `_work`."""
    configure_logs("INFO", each_job=settings.verbose)
    if settings.processes == 1 or SUPERVISED_ENV in os.environ:
        stop_with_supervisor()
        return await _work(settings_name, burst, flags, settings)
    status = await Supervisor(sys.orig_argv, settings.processes, grace_s=settings.grace_s).run()
    return ExitStatus(status) if status in set(ExitStatus) else ExitStatus.FAILED


async def _work(settings_name: str | None, burst: bool, flags: Mapping[str, Any], settings: Settings) -> ExitStatus:
    """Returns after SIGTERM or SIGINT, or with `burst` when the queue is empty.

    `flags` are the settings given on the command line: they outrank those of the class that `settings_name` names.
    Raises `RedisUnavailable` if Redis cannot be reached within `start_wait_s`; a worker that runs waits for it longer.
    """
    options: dict[str, Any] = {"burst": burst}
    if settings_name is None:
        settings_class = worker_settings(
            settings=settings, redis_pool=None
        )  # no redis_settings: arq cannot express all addresses
        address = RedisAddress.parse(settings.redis_url)
    else:
        _into_environment(flags)
        settings_class = load_settings_class(settings_name)
        address = _address_of(settings_class, settings, given="redis_url" in flags)
        options |= {_OPTION_OF[name]: getattr(settings, name) for name in flags if name in _OPTION_OF}
        if "dead_letters" in flags or "dead_letter_max" in flags:
            options["dead_letter_max"] = settings.max_dead_letters
    if "job_completion_wait" in options:
        options["job_completion_wait"] = math.ceil(options["job_completion_wait"])
    redis = connect(address, redis_class=ArqRedis)
    try:
        worker = make_worker(settings_class, redis, **options)
        tune_gc()
        try:
            await worker.async_run()
        except RedisError:  # raised only before the worker starts claiming
            with translated(redis):
                raise
        except asyncio.CancelledError:
            pass  # how the worker's own signal handler ends its run
        finally:
            await worker.close()
            if worker.started:
                _log.info("worker.stopped id=%s %s", worker.id, _counts(worker))
    finally:
        await redis.aclose()
    return ExitStatus.OK


def _counts(worker: Worker) -> str:
    counts = f"complete={worker.jobs_complete} failed={worker.jobs_failed} retried={worker.jobs_retried}"
    outcomes: Counter[FetchStatus] = worker.ctx.get("outcomes", Counter())
    return " ".join([counts, *(f"{status}={count}" for status, count in outcomes.most_common())])


def load_settings_class(name: str) -> type:
    """The class that `module:Class` names; the working directory is searched first. Raises `CommandFailed`."""
    module_name, _, class_name = name.partition(":")
    if not module_name or not class_name:
        raise CommandFailed(f"--settings takes module:Class, not {name!r}", ExitStatus.USAGE)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as problem:
        if not f"{module_name}.".startswith(f"{problem.name}."):
            raise  # the module exists; one that it imports does not
        raise CommandFailed(f"--settings: there is no module {module_name!r} here", ExitStatus.USAGE) from problem
    except AttributeError as problem:
        raise CommandFailed(f"--settings: {module_name} has no {class_name!r}", ExitStatus.USAGE) from problem
    if not isinstance(found, type) or not ("functions" in vars(found) or "cron_jobs" in vars(found)):
        raise CommandFailed(f"--settings: {name} is not a class made by worker_settings()", ExitStatus.USAGE)
    return found


def _into_environment(flags: Mapping[str, Any]) -> None:
    """Copies the flags to `FETCHQ_*`, which the class reads when its module is imported."""
    for name in flags.keys() & set(Settings.__struct_fields__):
        value = flags[name]
        os.environ[ENV_PREFIX + name.upper()] = " ".join(value) if isinstance(value, list) else str(value)


def _address_of(settings_class: type, settings: Settings, *, given: bool) -> RedisAddress:
    """The address of Redis: the command line's if `given`, else that of the class."""
    theirs = vars(settings_class).get("redis_settings")
    if given or not isinstance(theirs, RedisSettings):
        return RedisAddress.parse(settings.redis_url)
    hosts = theirs.host if isinstance(theirs.host, list) else [(theirs.host, theirs.port)]
    return RedisAddress(
        hosts=tuple(hosts),
        db=theirs.database,
        username=theirs.username,
        password=theirs.password,
        tls=theirs.ssl,
        unix_path=theirs.unix_socket_path,
        master=theirs.sentinel_master if theirs.sentinel else None,
        ssl_ca_certs=theirs.ssl_ca_certs,
        ssl_certfile=theirs.ssl_certfile,
        ssl_keyfile=theirs.ssl_keyfile,
    )
