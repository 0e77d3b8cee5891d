"""The producer for code without an event loop: Django, Flask, scripts."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack

from .errors import FetchqError
from .job import CancelOutcome, FetchJob, Job, JobStatus
from .keys import DEFAULT_QUEUE
from .producer import Producer
from .redis_url import DEFAULT_URL, RedisAddress
from .request import FetchRequest, RequestOptions
from .result import FetchResult

T = TypeVar("T")


class SyncProducer:
    """`Producer`, with the same methods, each of which returns when its work is done.

        with SyncProducer.from_url("redis://localhost:6379") as producer:
            result = producer.enqueue("https://example.org/").result(timeout_s=30)

    Any thread may call it. One thread of its own runs the event loop; it is started by the first call, and again in a
    child after a fork, so that one made before a server forks its workers is good in each of them.
    """

    def __init__(
        self, url: str | RedisAddress = DEFAULT_URL, *, queue: str = DEFAULT_QUEUE, namespace: str = ""
    ) -> None:
        """Raises `InvalidRedisURL`; nothing is sent yet."""
        self._address: Final = url if isinstance(url, RedisAddress) else RedisAddress.parse(url)
        self._queue = queue
        self._namespace = namespace
        self._lock = threading.Lock()
        self._engine: _Engine | None = None
        self._closed = False

    @classmethod
    def from_url(
        cls, url: str | RedisAddress = DEFAULT_URL, *, queue: str = DEFAULT_QUEUE, namespace: str = ""
    ) -> Self:
        """As `Producer.from_url`."""
        return cls(url, queue=queue, namespace=namespace)

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
        if engine is not None and engine.pid == os.getpid():
            engine.stop()

    def ping(self) -> None:
        """Returns if Redis answers."""
        engine = self._started()
        engine.call(engine.producer.ping())

    def enqueue(self, request: str | FetchRequest, **options: Unpack[RequestOptions]) -> SyncFetchJob:
        """As `Producer.enqueue`."""
        engine = self._started()
        return SyncFetchJob(self, engine.call(engine.producer.enqueue(request, **options)).id)

    def enqueue_many(self, requests: Iterable[str | FetchRequest]) -> list[SyncFetchJob]:
        """As `Producer.enqueue_many`. The iterable is read in the event loop's thread."""
        engine = self._started()
        return [SyncFetchJob(self, job.id) for job in engine.call(engine.producer.enqueue_many(requests))]

    def enqueue_call(self, function: str, *args: Any, **kwargs: Any) -> SyncJob:
        """As `Producer.enqueue_call`."""
        engine = self._started()
        return SyncJob(self, engine.call(engine.producer.enqueue_call(function, *args, **kwargs)).id)

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

    def as_completed(self, jobs: Iterable[SyncFetchJob], *, timeout_s: float | None = None) -> Iterator[FetchResult]:
        """As `Producer.as_completed`."""
        engine = self._started()
        results = engine.producer.as_completed([engine.producer.job(job.id) for job in jobs], timeout_s=timeout_s)
        try:
            while True:
                try:
                    yield engine.call(_next(results))
                except StopAsyncIteration:
                    return
        finally:
            engine.call(results.aclose())

    def _started(self) -> _Engine:
        with self._lock:
            if self._closed:
                raise FetchqError("the producer is closed")
            if self._engine is None or self._engine.pid != os.getpid():
                self._engine = _Engine(self._address, self._queue, self._namespace)
            return self._engine


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

    def __init__(self, address: RedisAddress, queue: str, namespace: str) -> None:
        self.pid: Final = os.getpid()
        self.producer: Final = Producer.from_url(address, queue=queue, namespace=namespace)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fetchq-producer", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # a KeyboardInterrupt here is to end the work there
            raise

    def stop(self) -> None:
        self.call(self.producer.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(results: Any) -> FetchResult:
    result: FetchResult = await anext(results)
    return result
