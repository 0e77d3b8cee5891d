"""Makes the worker for each command that runs one."""

from __future__ import annotations

import inspect
from typing import Any, Final

from arq.connections import ArqRedis

from fetchq_worker.engine import Worker

_OPTIONS: Final = frozenset(inspect.signature(Worker).parameters)
_REDIS_OPTIONS: Final = ("redis_settings", "redis_pool")


def make_worker(settings_class: type, redis_pool: ArqRedis, **options: Any) -> Worker:
    """A worker as `settings_class` (made by `worker_settings`) describes it, on `redis_pool`.

    `options` are the worker's own arguments and outrank the class's. The worker closes the pool at its end.
    """
    described = {name: value for name, value in vars(settings_class).items() if name in _OPTIONS}
    for name in _REDIS_OPTIONS:
        described.pop(name, None)
    worker = Worker(redis_pool=redis_pool, **{**described, **options})
    # As arq's create_pool does it: cron jobs, and coroutines by ctx["redis"], enqueue on this pool.
    redis_pool.job_serializer = worker.job_serializer
    redis_pool.job_deserializer = worker.job_deserializer
    redis_pool.default_queue_name = worker.queue_name
    redis_pool.expires_extra_ms = worker.expires_extra_ms
    return worker
