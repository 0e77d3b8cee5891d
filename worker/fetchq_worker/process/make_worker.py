"""Makes the worker for each command that runs one."""

from __future__ import annotations

from typing import Any

from arq.connections import ArqRedis

from fetchq_worker.engine import Worker
from fetchq_worker.engine.create import create_worker


def make_worker(settings: object, redis_pool: ArqRedis, **options: Any) -> Worker:
    """A worker as `settings` describe it (any form that arq takes), on `redis_pool`.

    `options` are the worker's own arguments and take precedence. The worker closes the pool at its end.
    """
    worker = create_worker(settings, redis_pool=redis_pool, **options)
    # As arq's create_pool does it: cron jobs, and coroutines by ctx["redis"], enqueue on this pool.
    redis_pool.job_serializer = worker.job_serializer
    redis_pool.job_deserializer = worker.job_deserializer
    redis_pool.default_queue_name = worker.queue_name
    redis_pool.expires_extra_ms = worker.expires_extra_ms
    return worker
