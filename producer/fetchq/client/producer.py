"""The producer: enqueues fetches and gets their results back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, Unpack, overload

from redis.asyncio import Redis

from fetchq.client.write.batch import BatchPipeline, abatches, attach_enqueued
from fetchq.client.write.each import enqueue_each
from fetchq.client.write.policy import WriteOptions, WritePolicy
from fetchq.client.write.writer import JobOptions, QueueWriter
from fetchq.contract.job_ids import check_id
from fetchq.contract.placement import check_schedule
from fetchq.contract.priority import Priority
from fetchq.contract.request import FetchRequest, RequestOptions, build_request
from fetchq.contract.result import FetchResult
from fetchq.contract.validation import check_whole
from fetchq.errors import FetchqError
from fetchq.store.address import DEFAULT_URL, RedisAddress
from fetchq.store.connection import connect
from fetchq.store.keys import DEFAULT_QUEUE, Keys, check_namespace, check_queue
from fetchq.store.session import Session

from . import handles
from .cancel import Canceller
from .dead_letters import DeadLetters
from .handles import CancelOutcome, FetchJob, Job, JobStatus
from .hosts import HostState, read_hosts
from .limits import Limits
from .results import ResultWaiter

WAKE_CAP: Final = 8
"""Maximum number of tokens on the wake list, as in `lua/include/redis/wake.lua`."""
MAX_TOP: Final = 1000


class Producer:
    """Enqueues fetch jobs. One for each service and event loop; any number of tasks may share it.

        async with Producer.from_url("redis://localhost:6379") as producer:
            job = await producer.enqueue("https://example.org/")
            result = await job.result(timeout_s=30)

    All methods that call Redis raise `RedisUnavailable` if it cannot be reached, `RedisRefused` if it replies with an
    error, and `FetchqError` if the producer is closed or belongs to another event loop, thread or process.

    `options` are the fields of `WritePolicy`: how durable a job is when its enqueue is acknowledged (`durability`), and
    what happens when the queue is full (`max_queued`, `when_full`). They apply to enqueueing only.
    """

    def __init__(
        self, redis: Redis, *, queue: str = DEFAULT_QUEUE, namespace: str = "", **options: Unpack[WriteOptions]
    ) -> None:
        """Uses an existing client (or `ArqRedis`), which stays open when the producer is closed.

        `queue` and `namespace` are those of the workers. Raises `InvalidRequest` for an invalid option.
        """
        if redis.connection_pool.connection_kwargs.get("decode_responses"):
            raise FetchqError("the Redis client has decode_responses=True; jobs are bytes, so it must be without")
        check_queue(queue)
        check_namespace(namespace)
        self._owns_redis = False
        self.keys: Final = Keys(queue=queue, namespace=namespace)
        self._session: Final = Session(redis, self.keys)
        self._writer: Final = QueueWriter(self._session, WritePolicy.of(options))
        self._canceller: Final = Canceller(self._session)
        self.results: Final = ResultWaiter(self._session)
        self.dead_letters: Final = DeadLetters(self._session)
        self.limits: Final = Limits(self._session)
        """The limits of hosts."""
        self._options: Final = options
        self._others: Final[dict[str, Producer]] = {}
        """Producers of other queues on the same client, for `enqueue_job(_queue_name=...)`."""

    @classmethod
    def from_url(
        cls,
        url: str | RedisAddress = DEFAULT_URL,
        *,
        queue: str = DEFAULT_QUEUE,
        namespace: str = "",
        **options: Unpack[WriteOptions],
    ) -> Self:
        """Uses its own client, closed with the producer. Nothing is sent yet. Raises `InvalidRedisURL`."""
        producer = cls(connect(url), queue=queue, namespace=namespace, **options)
        producer._owns_redis = True
        return producer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes what the producer opened; later calls raise. Jobs are not affected.

        Waits up to 5 s for the replies to enqueues that are under way.

        Does nothing in another event loop or process than the one in which the producer was used.
        """
        self._session.closed = True
        if self._session.is_foreign:
            return
        try:
            for other in self._others.values():
                await other.aclose()
            await self._writer.aclose()
            await self.results.aclose()
        finally:
            if self._owns_redis:
                await self._session.redis.aclose()

    async def ping(self) -> None:
        """Returns if Redis replies."""
        with self._session.guarded():
            await self._session.redis.ping()

    async def enqueue(self, request: str | FetchRequest, **options: Unpack[RequestOptions]) -> FetchJob:
        """Enqueues one fetch. When this returns, the job is on the queue, as durably as the write policy says.

        What tasks enqueue during a call to Redis shares the next one, up to 256 jobs or 1 MiB.

        `options` are the fields of `FetchRequest`. Raises `InvalidRequest` before anything is sent; `KeyConflict`;
        `QueueFull`; `DurabilityRefused` before the job is written, and `NotDurable` after it was.
        """
        made = build_request(request, options)
        check_schedule(made)
        ids, problem = await self._writer.enqueue(made)
        if problem is not None:
            problem.enqueued = tuple(FetchJob(self, job_id) for job_id in ids)  # type: ignore[union-attr]  # CancelledError accepts the attribute too
            raise problem
        return FetchJob(self, ids[0])

    async def enqueue_many(
        self,
        requests: Iterable[str | FetchRequest] | AsyncIterable[str | FetchRequest],
        *,
        enqueued: list[FetchJob] | None = None,
    ) -> list[FetchJob]:
        """Enqueues many fetches, a thousand a round trip, and returns their jobs in the same order.

        Stops at the first error: of a request, of Redis, or of the iterable itself. The exception's `enqueued`,
        whatever its class, then holds the jobs that are on the queue: the call first waits for the batch in flight
        (after a cancellation for at most a second). A batch that exceeds the capacity is enqueued in part. At most two
        batches of the iterable are read ahead.

        Each job is also appended to a list given as `enqueued`, as soon as it is on the queue. Give one where the call
        can be cancelled and its exception is lost: `asyncio.gather(return_exceptions=True)` and a second `await` of a
        task make a new `CancelledError`, and a task group does not show those of its tasks.
        """
        self._session.check()
        jobs = [] if enqueued is None else enqueued
        first = len(jobs)
        pipeline = BatchPipeline(self._writer, lambda ids: jobs.extend(FetchJob(self, job_id) for job_id in ids))
        try:
            async with aclosing(abatches(requests)) as full:
                async for batch in full:
                    await pipeline.push(batch)
            await pipeline.finish()
        except BaseException as problem:
            await pipeline.stop(problem)
            attach_enqueued(problem, jobs[first:])
            raise
        return jobs[first:]

    async def enqueue_each(self, requests: Iterable[str | FetchRequest]) -> list[FetchJob | FetchqError]:
        """Enqueues many fetches independently of each other: returns the job or the error of each, in the same order.

        The errors are those that `enqueue` raises: a request that is invalid, refused by a full queue or in conflict
        with another does not affect the rest. Requests share round trips, though `enqueue_many` takes a third of the
        CPU time. Once Redis is unavailable or a wait for capacity has timed out, the requests that have not been sent
        get the same error.

        The iterable is read as a whole before anything is sent, and its errors are raised. The `enqueued` of a
        cancellation holds the jobs that are known to be on the queue.
        """
        self._session.check()
        return await enqueue_each(self.enqueue, requests, waits=self._writer.capacity.waits)

    @overload
    async def enqueue_job(
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
    ) -> Job: ...
    @overload
    async def enqueue_job(self, function: str, *args: Any, _job_id: str, **kwargs: Any) -> Job | None: ...
    async def enqueue_job(self, function: str, *args: Any, **kwargs: Any) -> Job | None:
        """Enqueues a job of your own coroutine, registered with the workers as `function`. As arq's `enqueue_job`.

        Arguments are plain values or msgspec structs. Options begin with `_`:

        `_job_id`: the job's id. While a job or result of this id exists, nothing is enqueued and None is returned.
        `_queue_name`: another queue. `_defer_until`, `_defer_by` (seconds or a timedelta): when the job is due.
        `_expires` (seconds or a timedelta): the job is not started or retried later than this; by default it never
        expires. `_job_try`: the number of its first try. `_priority`: `high`, `default` or `low`.
        `_limit_key`: jobs with this name share limits (`producer.limits.set("key:NAME", ...)`).

        Raises `InvalidRequest` for another name that begins with `_`, and for an argument that cannot be encoded.
        """
        self._session.check()
        options = JobOptions.pop_from(kwargs)
        producer = self._on_queue(options.queue_name)
        job_id = options.job_id or self._writer.new_id()
        job = Job(producer, job_id)
        ids, problem = await producer._writer.enqueue_job(partial(options.job, function, args, kwargs, job_id))
        if problem is not None:
            problem.enqueued = (job,) * len(ids)  # type: ignore[union-attr]  # CancelledError accepts the attribute too
            raise problem
        return job if ids else None

    def _on_queue(self, name: str | None) -> Producer:
        if name is None or name == self.keys.queue:
            return self
        if name not in self._others:
            namespace = self.keys.namespace
            self._others[name] = Producer(self._session.redis, queue=name, namespace=namespace, **self._options)
        return self._others[name]

    def job(self, job_id: str) -> FetchJob:
        """A handle on the fetch job of this id. Sends nothing. Raises `InvalidRequest` if it is not a string."""
        check_id(job_id)
        return FetchJob(self, job_id)

    async def status(self, job_id: str) -> JobStatus:
        """The state of a job now."""
        return await handles.read_status(self._session, job_id)

    async def cancel_many(self, job_ids: Sequence[str]) -> list[CancelOutcome]:
        """Cancels many jobs, a thousand a round trip, and returns the outcome of each."""
        return await self._canceller.cancel_many(job_ids)

    def cancel_all(
        self, *, tag: str | None = None, host: str | None = None
    ) -> AsyncGenerator[dict[CancelOutcome, int], None]:
        """Cancels every job of the queue, or every fetch with the tag and of the host; yields counts batch by batch.

        Jobs parked for the host are cancelled first. Jobs enqueued meanwhile may or may not be included.
        Raises `InvalidRequest` for an invalid host.
        """
        return self._canceller.cancel_all(tag, host)

    async def pause(self) -> None:
        """Starts no more jobs of this queue. Running jobs continue, and jobs can be enqueued."""
        with self._session.guarded():
            await self._session.redis.set(self.keys.paused, "1")

    async def resume(self) -> None:
        """Ends a pause of the queue and wakes idle workers."""
        with self._session.guarded():
            async with self._session.redis.pipeline(transaction=True) as pipe:
                pipe.delete(self.keys.paused)
                pipe.rpush(self.keys.wake, *["1"] * WAKE_CAP)
                pipe.ltrim(self.keys.wake, 0, WAKE_CAP - 1)
                await pipe.execute()

    async def hosts(self, *, top: int = 10) -> list[HostState]:
        """The `top` hosts with most waiting jobs, the `top` with the longest cooldowns, and some with running jobs."""
        check_whole("top", top, 1, MAX_TOP)
        return await read_hosts(self._session, top)

    def as_completed(
        self, jobs: Iterable[FetchJob], *, timeout_s: float | None = None
    ) -> AsyncGenerator[FetchResult, None]:
        """The results of `jobs` as they are stored.

        Raises `ResultTimeout` if some are missing after `timeout_s`; 0 yields those that are stored now. Jobs that
        do not exist and results that cannot be read are skipped: the first such `JobNotFound` or `WireError` is raised
        at the end. Raises `RedisUnavailable` as `FetchJob.result` does.
        """
        return handles.as_completed(self.results, jobs, timeout_s)
