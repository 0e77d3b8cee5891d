"""The producer for code without an event loop: Django, Flask, scripts."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack
from weakref import WeakSet

from fetchq.client.batch import attach_enqueued, batches, jobs_of
from fetchq.client.handles import CancelOutcome, FetchJob, Job, JobStatus
from fetchq.client.hosts import HostState
from fetchq.client.producer import Producer
from fetchq.client.write_policy import WriteOptions, WritePolicy
from fetchq.contract.request import FetchRequest, RequestOptions
from fetchq.contract.result import FetchResult
from fetchq.errors import FetchqError
from fetchq.store.address import DEFAULT_URL, RedisAddress
from fetchq.store.keys import DEFAULT_QUEUE

from .dead_letters import SyncDeadLetters
from .limits import SyncLimits

T = TypeVar("T")


class SyncProducer:
    """`Producer`, with the same methods, each of which returns when its work is done.

        with SyncProducer.from_url("redis://localhost:6379") as producer:
            result = producer.enqueue("https://example.org/").result(timeout_s=30)

    Any thread may call it but one: the thread of its own that runs the event loop. That is started by the first call,
    and again in a child after a fork, so that one made before a server forks its workers is good in each of them.
    """

    def __init__(
        self,
        url: str | RedisAddress = DEFAULT_URL,
        *,
        queue: str = DEFAULT_QUEUE,
        namespace: str = "",
        **options: Unpack[WriteOptions],
    ) -> None:
        """Raises `InvalidRedisURL`, and `InvalidRequest` as `Producer` does; nothing is sent yet."""
        WritePolicy.of(options)
        self._address: Final = url if isinstance(url, RedisAddress) else RedisAddress.parse(url)
        self._queue = queue
        self._namespace = namespace
        self._options: Final = options
        self._lock = threading.Lock()
        self._engine: _Engine | None = None
        self._closed = False
        self.dead: Final = SyncDeadLetters(self)
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
        return cls(url, queue=queue, namespace=namespace, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections and ends the thread. Jobs go on."""
        with self._lock:
            engine, self._engine, self._closed = self._engine, None, True
        if engine is not None:
            engine.stop()

    def ping(self) -> None:
        """Returns if Redis answers."""
        engine = self._started()
        engine.call(engine.producer.ping())

    def enqueue(self, request: str | FetchRequest, **options: Unpack[RequestOptions]) -> SyncFetchJob:
        """As `Producer.enqueue`."""
        engine = self._started()
        try:
            return SyncFetchJob(self, engine.call(engine.producer.enqueue(request, **options)).id)
        except FetchqError as problem:
            problem.enqueued = tuple(SyncFetchJob(self, job.id) for job in problem.enqueued)
            raise

    def enqueue_many(self, requests: Iterable[str | FetchRequest]) -> list[SyncFetchJob]:
        """As `Producer.enqueue_many`. The iterable is read in the caller's thread."""
        engine = self._started()
        jobs: list[FetchJob] = []
        under_way: list[Future[list[FetchJob]]] = []  # at most one, while the next batch is being made
        try:
            for batch in batches(requests):
                if under_way:
                    done = engine.wait(under_way.pop())
                    jobs += done
                under_way.append(engine.submit(engine.producer._enqueue_batch(batch)))
            if under_way:
                done = engine.wait(under_way.pop())
                jobs += done
        except BaseException as problem:
            more: list[FetchJob | SyncFetchJob] = []
            for batch_under_way in under_way:
                if not isinstance(problem, Exception):
                    batch_under_way.cancel()
                more += jobs_of(_outcome_of(batch_under_way), problem)
            attach_enqueued(problem, [SyncFetchJob(self, job.id) for job in (*jobs, *more, *jobs_of(problem))])
            raise
        return [SyncFetchJob(self, job.id) for job in jobs]

    def enqueue_job(self, function: str, *args: Any, **kwargs: Any) -> SyncJob:
        """As `Producer.enqueue_job`."""
        engine = self._started()
        try:
            return SyncJob(self, engine.call(engine.producer.enqueue_job(function, *args, **kwargs)).id)
        except FetchqError as problem:
            problem.enqueued = tuple(SyncJob(self, job.id) for job in problem.enqueued)
            raise

    def job(self, job_id: str) -> SyncFetchJob:
        """As `Producer.job`."""
        return SyncFetchJob(self, job_id)

    def status(self, job_id: str) -> JobStatus:
        """As `Producer.status`."""
        engine = self._started()
        return engine.call(engine.producer.status(job_id))

    def cancel_many(self, job_ids: Sequence[str]) -> list[CancelOutcome]:
        """As `Producer.cancel_many`."""
        engine = self._started()
        return engine.call(engine.producer.cancel_many(job_ids))

    def cancel_all(self, *, tag: str | None = None, host: str | None = None) -> Iterator[dict[CancelOutcome, int]]:
        """As `Producer.cancel_all`."""
        engine = self._started()
        return engine.each(engine.producer.cancel_all(tag=tag, host=host))

    def pause(self) -> None:
        """As `Producer.pause`."""
        engine = self._started()
        engine.call(engine.producer.pause())

    def resume(self) -> None:
        """As `Producer.resume`."""
        engine = self._started()
        engine.call(engine.producer.resume())

    def hosts(self, *, top: int = 10) -> list[HostState]:
        """As `Producer.hosts`."""
        engine = self._started()
        return engine.call(engine.producer.hosts(top=top))

    def as_completed(self, jobs: Iterable[SyncFetchJob], *, timeout_s: float | None = None) -> Iterator[FetchResult]:
        """As `Producer.as_completed`."""
        engine = self._started()
        ours = [engine.producer.job(job.id) for job in jobs]
        return engine.each(engine.producer.as_completed(ours, timeout_s=timeout_s))

    def _started(self) -> _Engine:
        with self._lock:
            if self._closed:
                raise FetchqError("the producer is closed")
            if self._engine is None:
                self._engine = _Engine(self._address, self._queue, self._namespace, self._options)
            return self._engine

    def _begin_anew(self) -> None:
        """In a child after a fork: there the engine has no thread, and who held the lock is not there to free it."""
        self._lock = threading.Lock()
        if self._engine is not None:
            _left_to_parents.append(self._engine)
            self._engine = None


class SyncJob:
    """`Job` for a `SyncProducer`."""

    __slots__ = ("_owner", "id")

    def __init__(self, owner: SyncProducer, job_id: str) -> None:
        self._owner = owner
        self.id = job_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SyncJob) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def status(self) -> JobStatus:
        """As `Job.status`."""
        return self._owner.status(self.id)

    def cancel(self) -> CancelOutcome:
        """As `Job.cancel`."""
        return self._owner.cancel_many([self.id])[0]

    def value(self, timeout_s: float | None = None) -> Any:
        """As `Job.value`."""
        engine = self._owner._started()
        return engine.call(Job(engine.producer, self.id).value(timeout_s))


class SyncFetchJob(SyncJob):
    """`FetchJob` for a `SyncProducer`."""

    __slots__ = ()

    def result(self, timeout_s: float | None = None) -> FetchResult:
        """As `FetchJob.result`."""
        engine = self._owner._started()
        return engine.call(FetchJob(engine.producer, self.id).result(timeout_s))


class _Engine:
    """An event loop in a thread, and the producer that lives in it."""

    def __init__(self, address: RedisAddress, queue: str, namespace: str, options: WriteOptions) -> None:
        self.producer: Final = Producer.from_url(address, queue=queue, namespace=namespace, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fetchq-producer", daemon=True)
        self._gate = threading.Lock()  # nothing is handed to a loop that is being stopped
        self._stopped = False
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts `work`; closes it unstarted where it cannot be."""
        try:
            self._check_thread()
            with self._gate:
                self._check_open()
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        except FetchqError:
            work.close()
            raise

    def wait(self, future: Future[T]) -> T:
        try:
            return future.result()
        except CancelledError as problem:
            raise FetchqError("the producer was closed by another thread") from problem
        except BaseException:
            future.cancel()  # a KeyboardInterrupt here is to end the work there
            raise

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return self.wait(self.submit(work))

    def each(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        try:
            while True:
                try:
                    yield self.call(_next(items))
                except StopAsyncIteration:
                    return
        finally:
            if not self._stopped:
                self.call(_close(items))

    def stop(self) -> None:
        """Whoever still waits in another thread gets a `FetchqError`."""
        self._check_thread()
        with self._gate:
            self._stopped = True
            ended = asyncio.run_coroutine_threadsafe(_end(self.producer), self._loop)
        try:
            ended.result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _check_open(self) -> None:
        if self._stopped:
            raise FetchqError("the producer is closed")

    def _check_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise FetchqError("called in the thread of the producer's own event loop, which must not wait for itself")


async def _next(items: AsyncGenerator[T, None]) -> T:
    return await anext(items)


async def _close(items: AsyncGenerator[T, None]) -> None:
    await items.aclose()


async def _end(producer: Producer) -> None:
    await producer.aclose()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


def _outcome_of(batch: Future[list[FetchJob]]) -> list[FetchJob] | BaseException:
    wait_for([batch])
    return CancelledError() if batch.cancelled() else batch.exception() or batch.result()


_living: Final[WeakSet[SyncProducer]] = WeakSet()
_left_to_parents: Final[list[_Engine]] = []
"""Kept for ever: the sockets of a parent's engine that were collected here would leave an epoll set that both share."""


def _begin_anew_in_child() -> None:
    for producer in list(_living):
        producer._begin_anew()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_begin_anew_in_child)
