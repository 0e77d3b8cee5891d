"""`fetchq worker`: runs a worker until it is told to stop."""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path

from arq.connections import ArqRedis

from fetchq.redis_errors import translated
from fetchq.redis_url import connect
from fetchq_worker.settings import Settings

from .exit_status import CommandFailed, ExitStatus
from .logs import configure_logs
from .run_worker import make_worker


async def work(burst: bool, settings_class: str | None, settings: Settings) -> ExitStatus:
    """Returns after SIGTERM or SIGINT, or with `burst` when the queue is empty. Raises `RedisUnavailable` at the start.

    Once it runs, the worker outlives Redis's absence.
    """
    configure_logs("INFO")
    functions = load_settings_class(settings_class) if settings_class is not None else None
    redis = connect(settings.redis_url, redis_class=ArqRedis)
    try:
        with translated(redis):
            await redis.ping()
        worker = make_worker(settings, redis, settings_class=functions, burst=burst)
        try:
            await worker.async_run()
        except asyncio.CancelledError:
            pass  # how the worker's own signal handler ends its run
        finally:
            await worker.close()
    finally:
        await redis.aclose()
    return ExitStatus.OK


def load_settings_class(name: str) -> type:
    """The class that `module:Class` names, the working directory being searched first."""
    module_name, colon, class_name = name.partition(":")
    if not (module_name and colon and class_name):
        raise CommandFailed(f"--settings takes module:Class, not {name!r}", ExitStatus.USAGE)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as problem:
        if problem.name is None or not f"{module_name}.".startswith(f"{problem.name}."):
            raise  # their module is there; what it imports is not
        raise CommandFailed(f"--settings: there is no module {module_name!r} here", ExitStatus.USAGE) from problem
    except AttributeError as problem:
        raise CommandFailed(f"--settings: {module_name} has no {class_name!r}", ExitStatus.USAGE) from problem
    if not isinstance(found, type):
        raise CommandFailed(f"--settings: {name} is not a class", ExitStatus.USAGE)
    return found
