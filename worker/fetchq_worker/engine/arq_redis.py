"""arq's Redis client for a queue with a namespace.

arq's key names are constants, so its own client would enqueue outside the namespace. This one puts the namespace
before arq's names in every command, and `arq.jobs.Job` works on it unchanged. The keys of a user's own
commands stay as they are.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from arq.connections import ArqRedis, create_pool
from arq.jobs import Job, JobDef, JobResult
from arq.worker import Worker
from redis.asyncio.client import Pipeline

from fetchq.store.connection import use_own_connections
from fetchq.store.keys import Keys

ARQ_PREFIX: Final = "arq:"
ALL_ARGUMENTS_ARE_KEYS: Final = frozenset({"DEL", "EXISTS", "MGET", "TOUCH", "UNLINK", "WATCH"})
"""In all other commands the first argument is the key."""


class KeyNames:
    """Puts the namespace before the names of arq's keys and of the worker's queue."""

    def __init__(self, keys: Keys) -> None:
        self.namespace: Final = keys.namespace
        self._queue: Final = keys.queue
        self._pending: Final = keys.pending

    def queue(self, name: str) -> str:
        """The key of a queue. The worker's own `queue_name` has the namespace already."""
        return name if name == self._pending else self.namespace + name

    def translate(self, command: tuple[Any, ...]) -> tuple[Any, ...]:
        name, *args = command
        count = len(args) if name in ALL_ARGUMENTS_ARE_KEYS else 1
        return (name, *map(self._translate_key, args[:count]), *args[count:])

    def _translate_key(self, key: Any) -> Any:
        if isinstance(key, str) and (key.startswith(ARQ_PREFIX) or key == self._queue) and key != self._pending:
            return self.namespace + key
        return key


class NamespacedArqRedis(ArqRedis):
    """`ctx["redis"]` of a worker with a namespace."""

    names: KeyNames

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        return await super().execute_command(*self.names.translate(args), **options)  # type: ignore[no-untyped-call]  # redis-py's

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        pipeline = NamespacedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.names = self.names
        return pipeline

    async def enqueue_job(
        self,
        function: str,
        *args: Any,
        _job_id: str | None = None,
        _queue_name: str | None = None,
        _defer_until: datetime | None = None,
        _defer_by: float | timedelta | None = None,
        _expires: float | timedelta | None = None,
        _job_try: int | None = None,
        **kwargs: Any,
    ) -> Job | None:
        return await super().enqueue_job(
            function,
            *args,
            _job_id=_job_id,
            _queue_name=None if _queue_name is None else self.names.queue(_queue_name),
            _defer_until=_defer_until,
            _defer_by=_defer_by,
            _expires=_expires,
            _job_try=_job_try,
            **kwargs,
        )

    async def queued_jobs(self, *, queue_name: str | None = None) -> list[JobDef]:
        return await super().queued_jobs(queue_name=None if queue_name is None else self.names.queue(queue_name))

    async def _get_job_result(self, key: bytes) -> JobResult:
        """arq passes the name of the key as Redis has it and takes the id from its end."""
        return await super()._get_job_result(key.removeprefix(self.names.namespace.encode()))


class NamespacedPipeline(Pipeline):
    names: KeyNames

    def execute_command(self, *args: Any, **options: Any) -> Any:
        return super().execute_command(*self.names.translate(args), **options)


async def open_client(worker: Worker, keys: Keys) -> ArqRedis:
    """A client for the worker's own settings."""
    pool = await create_pool(
        worker.redis_settings,
        job_deserializer=worker.job_deserializer,
        job_serializer=worker.job_serializer,
        default_queue_name=worker.queue_name,
        expires_extra_ms=worker.expires_extra_ms,
    )
    await use_own_connections(pool)
    return client_of(worker, pool, keys)


def client_of(worker: Worker, pool: ArqRedis, keys: Keys) -> ArqRedis:
    """`pool` itself; with a namespace, a client on its connections that puts the namespace before arq's keys."""
    if not keys.namespace:
        return pool
    client = NamespacedArqRedis(
        pool.connection_pool,
        job_serializer=worker.job_serializer,
        job_deserializer=worker.job_deserializer,
        default_queue_name=keys.pending,
        expires_extra_ms=worker.expires_extra_ms,
    )
    client.names = KeyNames(keys)
    return client
