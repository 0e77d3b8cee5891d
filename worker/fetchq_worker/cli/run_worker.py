"""The one place where a worker is made, for every command that runs one."""

from __future__ import annotations

import math
from typing import Any

from arq.connections import ArqRedis
from arq.worker import get_kwargs

from fetchq_worker.engine import Worker
from fetchq_worker.settings import Settings
from fetchq_worker.worker_settings import worker_settings


def make_worker(
    settings: Settings, redis_pool: ArqRedis, *, settings_class: type | None = None, **options: Any
) -> Worker:
    """A worker on `redis_pool`, which it closes at its end.

    It runs the functions of `settings_class`, made by `worker_settings`; None: the fetch alone. `options` are more of
    the worker's own arguments and outrank both.
    """
    arguments = get_kwargs(settings_class or worker_settings(settings=settings))
    for given_already in ("redis_settings", "namespace"):
        arguments.pop(given_already, None)
    arguments |= {
        "redis_pool": redis_pool,
        "queue_name": settings.queue,
        "max_jobs": settings.concurrency,
        "job_completion_wait": math.ceil(settings.grace_s),
    }
    return Worker(**{**arguments, **options})
