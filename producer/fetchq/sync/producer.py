"""The producer for code without an event loop: Django, Flask, scripts."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, Unpack, overload
from weakref import WeakSet

import redis
from redis.asyncio import Redis

from fetchq.client.dead_letters import DeadLetters
from fetchq.client.handles import FetchJob, Job
from fetchq.client.limits import Limits
from fetchq.client.producer import Producer
from fetchq.client.write.batch import BatchPipeline, attach_enqueued, batches
from fetchq.client.write.policy import WriteOptions, WritePolicy
from fetchq.contract.job_ids import check_id
from fetchq.contract.priority import Priority
from fetchq.contract.request import FetchRequest, RequestOptions
from fetchq.contract.result import FetchResult
from fetchq.errors import FetchqError
from fetchq.store.address import DEFAULT_URL, RedisAddress
from fetchq.store.keys import DEFAULT_QUEUE, check_namespace, check_queue
from fetchq.store.session import client_like

from .blocking import blocking, iterating
from .loop_thread import LoopThread


class SyncProducer:
    """`Producer` with the same methods, each of which returns when its work is done.

        with SyncProducer.from_url("redis://localhost:6379") as producer:
            result = producer.enqueue("https://example.org/").result(timeout_s=30)

    Any thread may call it. Its event loop runs in a thread that the first call starts, and starts again in a child
    process after a fork: so a producer that was made before a server forks its workers can be used in each of them.
    """

    def __init__(
        self,
        client: Redis | redis.Redis | RedisAddress | str = DEFAULT_URL,
        *,
        queue: str = DEFAULT_QUEUE,
        namespace: str = "",
        **options: Unpack[WriteOptions],
    ) -> None:
        """Takes an address, or a client of redis-py, async or not, whose settings it uses for its own connections.

        Raises `InvalidRedisURL`, and `InvalidRequest` as `Producer` does. Nothing is sent yet.
        """
        WritePolicy.of(options)
        check_queue(queue)
        check_namespace(namespace)
        self._source: Final = (
            client if isinstance(client, Redis | redis.Redis | RedisAddress) else RedisAddress.parse(client)
        )
        self._settings: Final[dict[str, Any]] = {"queue": queue, "namespace": namespace, **options}
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._closed = False
        self.dead_letters: Final = SyncDeadLetters(self)
        self.limits: Final = SyncLimits(self)
        _living.add(self)

    @classmethod
    def from_url(
        cls,
        url: str | RedisAddress = DEFAULT_URL,
        *,
        queue: str = DEFAULT_QUEUE,
        namespace: str = "",
        **options: Unpack[WriteOptions],
    ) -> Self:
        """As `Producer.from_url`."""
        address = url if isinstance(url, RedisAddress) else RedisAddress.parse(url)
        return cls(address, queue=queue, namespace=namespace, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections and ends the thread. Jobs are not affected."""
        with self._lock:
            thread, self._thread, self._closed = self._thread, None, True
        if thread is not None:
            thread.stop()

    ping = blocking(Producer.ping)
    status = blocking(Producer.status)
    cancel_many = blocking(Producer.cancel_many)
    cancel_all = iterating(Producer.cancel_all)
    pause = blocking(Producer.pause)
    resume = blocking(Producer.resume)
    hosts = blocking(Producer.hosts)

    def enqueue(self, request: str | FetchRequest, **options: Unpack[RequestOptions]) -> SyncFetchJob:
        """As `Producer.enqueue`."""
        thread, producer = self._mirrored()
        with self._handles(partial(SyncFetchJob, self)):
            return SyncFetchJob(self, thread.call(producer.enqueue(request, **options)).id)

    def enqueue_many(
        self, requests: Iterable[str | FetchRequest], *, enqueued: list[SyncFetchJob] | None = None
    ) -> list[SyncFetchJob]:
        """As `Producer.enqueue_many`. The iterable is read in the caller's thread."""
        thread, producer = self._mirrored()
        jobs = [] if enqueued is None else enqueued
        first = len(jobs)
        pipeline = BatchPipeline(producer._writer, lambda ids: jobs.extend(SyncFetchJob(self, one) for one in ids))
        try:
            for batch in batches(requests):
                thread.call(pipeline.push(batch))
            thread.call(pipeline.finish())
        except BaseException as problem:
            with contextlib.suppress(FetchqError):  # the producer was closed
                thread.call(pipeline.stop(problem))
            attach_enqueued(problem, jobs[first:])
            raise
        return jobs[first:]

    def enqueue_each(self, requests: Iterable[str | FetchRequest]) -> list[SyncFetchJob | FetchqError]:
        """As `Producer.enqueue_each`. The iterable is read in the caller's thread."""
        thread, producer = self._mirrored()
        if isinstance(requests, Iterable) and not isinstance(requests, str | FetchRequest):
            requests = list(requests)
        outcomes: list[SyncFetchJob | FetchqError] = []
        for outcome in thread.call(producer.enqueue_each(requests)):
            if isinstance(outcome, FetchqError):
                outcome.enqueued = tuple(SyncFetchJob(self, job.id) for job in outcome.enqueued)
                outcomes.append(outcome)
            else:
                outcomes.append(SyncFetchJob(self, outcome.id))
        return outcomes

    @overload
    def enqueue_job(
        self,
        function: str,
        *args: Any,
        _job_id: None = None,
        _queue_name: str | None = None,
        _defer_until: datetime | None = None,
        _defer_by: float | timedelta | None = None,
        _expires: float | timedelta | None = None,
        _job_try: int | None = None,
        _priority: Priority | str = Priority.DEFAULT,
        _limit_key: str | None = None,
        **kwargs: Any,
    ) -> SyncJob: ...
    @overload
    def enqueue_job(self, function: str, *args: Any, _job_id: str, **kwargs: Any) -> SyncJob | None: ...
    def enqueue_job(self, function: str, *args: Any, **kwargs: Any) -> SyncJob | None:
        """As `Producer.enqueue_job`."""
        thread, producer = self._mirrored()
        make = partial(SyncJob, self, queue=kwargs.get("_queue_name"))
        with self._handles(make):
            job: Job | None = thread.call(producer.enqueue_job(function, *args, **kwargs))
            return None if job is None else make(job.id)

    def job(self, job_id: str) -> SyncFetchJob:
        """As `Producer.job`."""
        check_id(job_id)
        return SyncFetchJob(self, job_id)

    def as_completed(self, jobs: Iterable[SyncFetchJob], *, timeout_s: float | None = None) -> Iterator[FetchResult]:
        """As `Producer.as_completed`."""
        thread, producer = self._mirrored()
        handles = [producer.job(job.id) for job in jobs]
        return thread.iterate(producer.as_completed(handles, timeout_s=timeout_s))

    def _mirrored(self) -> tuple[LoopThread, Producer]:
        with self._lock:
            if self._closed:
                raise FetchqError("the producer is closed")
            if self._thread is None:
                self._thread = LoopThread(self._make_producer)
            return self._thread, self._thread.producer

    def _make_producer(self) -> Producer:
        if isinstance(self._source, RedisAddress):
            return Producer.from_url(self._source, **self._settings)
        producer = Producer(client_like(self._source), **self._settings)
        producer._owns_redis = True
        return producer

    @contextlib.contextmanager
    def _handles(self, make: Callable[[str], SyncJob]) -> Iterator[None]:
        """Replaces the async handles in an error's `enqueued` by blocking ones."""
        try:
            yield
        except FetchqError as problem:
            problem.enqueued = tuple(make(job.id) for job in problem.enqueued)
            raise

    def _restart_in_child(self) -> None:
        """After a fork: the child has neither the thread nor the one that may hold the lock."""
        self._lock = threading.Lock()
        if self._thread is not None:
            _parents_threads.append(self._thread)
            self._thread = None


class SyncJob:
    """`Job` for a `SyncProducer`."""

    __slots__ = ("_owner", "_queue", "id")

    def __init__(self, owner: SyncProducer, job_id: str, *, queue: str | None = None) -> None:
        """`queue`: its queue, where that is not the owner's."""
        self._owner = owner
        self._queue = queue
        self.id = job_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SyncJob) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    status = blocking(Job.status)
    cancel = blocking(Job.cancel)
    value = blocking(Job.value)

    def _mirrored(self) -> tuple[LoopThread, FetchJob]:
        thread, producer = self._owner._mirrored()
        return thread, producer._on_queue(self._queue).job(self.id)


class SyncFetchJob(SyncJob):
    """`FetchJob` for a `SyncProducer`."""

    __slots__ = ()

    result = blocking(FetchJob.result)


class SyncDeadLetters:
    """`DeadLetters` for a `SyncProducer`, with the same methods."""

    def __init__(self, owner: SyncProducer) -> None:
        self._owner = owner

    count = blocking(DeadLetters.count)
    get = blocking(DeadLetters.get)
    list = iterating(DeadLetters.list)
    retry_many = blocking(DeadLetters.retry_many)
    retry_all = iterating(DeadLetters.retry_all)
    purge_many = blocking(DeadLetters.purge_many)
    purge_all = iterating(DeadLetters.purge_all)

    def _mirrored(self) -> tuple[LoopThread, DeadLetters]:
        thread, producer = self._owner._mirrored()
        return thread, producer.dead_letters


class SyncLimits:
    """`Limits` for a `SyncProducer`, with the same methods."""

    def __init__(self, owner: SyncProducer) -> None:
        self._owner = owner

    set = blocking(Limits.set)
    clear = blocking(Limits.clear)
    pause = blocking(Limits.pause)
    resume = blocking(Limits.resume)
    effective = blocking(Limits.effective)
    list = blocking(Limits.list)

    def _mirrored(self) -> tuple[LoopThread, Limits]:
        thread, producer = self._owner._mirrored()
        return thread, producer.limits


_living: Final[WeakSet[SyncProducer]] = WeakSet()
_parents_threads: Final[list[LoopThread]] = []
"""Kept alive in a child process: closing the sockets of the parent's loop would remove them from the epoll set that
both processes share."""


def _restart_all_in_child() -> None:
    for producer in list(_living):
        producer._restart_in_child()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_restart_all_in_child)
