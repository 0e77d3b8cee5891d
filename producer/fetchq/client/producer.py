"""The producer: puts fetches on the queue and gets their results back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

from redis.asyncio import Redis

from fetchq.contract import wire
from fetchq.contract.job_ids import JobIds, check_id, id_for_key
from fetchq.contract.placement import check_schedule, due_of, lane_and_deadline_of, limit_key_of
from fetchq.contract.request import FetchRequest, RequestOptions, build_request
from fetchq.contract.result import FetchResult
from fetchq.contract.validation import check_whole
from fetchq.errors import FetchqError, InvalidRequest, KeyConflict, RedisUnavailable, WireError
from fetchq.store.address import DEFAULT_URL, RedisAddress
from fetchq.store.commands import CancelJob, JobCommands, NewJob
from fetchq.store.connection import connect
from fetchq.store.errors import translated
from fetchq.store.keys import DEFAULT_QUEUE, Keys
from fetchq.store.runner import ClientRunner

from .batch import BATCH_JOBS, abatches, attach_enqueued, jobs_of
from .cancel import cancelled, host_to_cancel, match_filter
from .dead_letters import DeadLetters
from .enqueue import EnqueueReply, QueueWriter
from .handles import CancelOutcome, FetchJob, Job, JobStatus
from .hosts import HostState, read_hosts
from .limits import Limits
from .results import LOOK_BATCH, ResultWaiter
from .write_policy import WriteOptions, WritePolicy

if TYPE_CHECKING:
    from fetchq.sync.producer import SyncFetchJob

WAKE_CAP: Final = 8
"""How many tokens the wake list holds at most, as in `lua/enqueue.lua`."""
MAX_TOP: Final = 1000

_PARTS_A_CALL: Final = 6
"""Of the queue of a limit key: with the first, of up to 128 jobs each, they are less than `BATCH_JOBS`."""

_TURNS_TO_SEND: Final = 12
"""Turns of the event loop in which redis-py has taken a connection and written a command to it."""

_CANCEL_OUTCOMES: Final = (
    CancelOutcome.NOT_FOUND,
    CancelOutcome.CANCELLED,
    CancelOutcome.REQUESTED,
    CancelOutcome.FINISHED,
)


class Producer:
    """Puts fetch jobs on a queue. One for each service and event loop; any number of tasks may share it.

        async with Producer.from_url("redis://localhost:6379") as producer:
            job = await producer.enqueue("https://example.org/")
            result = await job.result(timeout_s=30)

    Raises `RedisUnavailable` where Redis cannot be reached and `RedisRefused` where it says no.

    `options` are the fields of `WritePolicy`: how durable what it enqueues is to be before it is acknowledged
    (`durability`), and what it does where there is no room for more (`max_queued`, `when_full`). They hold for
    enqueueing alone: cancelling is neither waited for nor held back.
    """

    def __init__(
        self, redis: Redis, *, queue: str = DEFAULT_QUEUE, namespace: str = "", **options: Unpack[WriteOptions]
    ) -> None:
        """On a client of yours (an `ArqRedis` too), which stays open when the producer is closed.

        `queue` and `namespace` are those of the workers. Raises `InvalidRequest` for an option that cannot be.
        """
        if redis.connection_pool.connection_kwargs.get("decode_responses"):
            raise FetchqError("the Redis client has decode_responses=True; jobs are bytes, so it must be without")
        self._redis = redis
        self._owned = False
        self._closed = False
        self.keys: Final = Keys(queue=queue, namespace=namespace)
        self.results: Final = ResultWaiter(redis, self.keys)
        self.dead: Final = DeadLetters(self, redis)
        self.limits: Final = Limits(redis, self.keys, self._guarded)
        """Those of hosts."""
        self._ids = JobIds()
        self._writer = QueueWriter(redis, self.keys, WritePolicy.of(options))
        self._runner: Final = ClientRunner(redis)
        self._commands: Final = JobCommands(self.keys)

    @classmethod
    def from_url(
        cls,
        url: str | RedisAddress = DEFAULT_URL,
        *,
        queue: str = DEFAULT_QUEUE,
        namespace: str = "",
        **options: Unpack[WriteOptions],
    ) -> Self:
        """With a client of its own, closed with it. Nothing is sent yet. Raises `InvalidRedisURL`."""
        producer = cls(connect(url), queue=queue, namespace=namespace, **options)
        producer._owned = True
        return producer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes what the producer opened, and refuses whatever is asked of it after that. Jobs go on."""
        self._closed = True
        try:
            await self._writer.aclose()
            await self.results.aclose()
        finally:
            if self._owned:
                await self._redis.aclose()

    async def ping(self) -> None:
        """Returns if Redis answers."""
        with self._guarded():
            await self._redis.ping()

    async def enqueue(self, request: str | FetchRequest, **options: Unpack[RequestOptions]) -> FetchJob:
        """Puts one fetch on the queue; when this returns, it is there, as durably as the producer's policy says.

        `options` are the fields of `FetchRequest`. Raises `InvalidRequest`, and then nothing has reached Redis;
        `KeyConflict`; `QueueFull` where there is no room for it; `DurabilityRefused` before it is written, and
        `NotDurable` when it was.
        """
        made = build_request(request, options)
        check_schedule(made)
        return (await self._enqueue_batch([made]))[0]

    async def enqueue_many(
        self, requests: Iterable[str | FetchRequest] | AsyncIterable[str | FetchRequest]
    ) -> list[FetchJob]:
        """Puts many fetches on the queue, a thousand a round trip, and gives their jobs in the same order.

        An error stops it where it stands: of a request, of Redis, or of the iterable itself. The jobs that were put on
        the queue before are then the error's `enqueued`, whatever its class. A batch that is under way is waited for;
        only a cancellation gives it up, and then its jobs may or may not be there. Where there is room for a part of a
        batch, that part is put.
        At most two batches of the iterable are read ahead.
        """
        jobs: list[FetchJob] = []
        under_way: list[asyncio.Task[list[FetchJob]]] = []  # at most one, while the next batch is being made
        try:
            async with contextlib.aclosing(abatches(requests)) as full:
                async for batch in full:
                    if under_way:
                        jobs += await under_way.pop()
                    under_way.append(asyncio.create_task(self._enqueue_batch(batch)))
                    for _ in range(_TURNS_TO_SEND):  # so that Redis is at work while the next batch is made
                        await asyncio.sleep(0)
            if under_way:
                jobs += await under_way.pop()
        except BaseException as problem:
            more: list[FetchJob | SyncFetchJob] = []
            for batch_under_way in under_way:
                if not isinstance(problem, Exception):
                    batch_under_way.cancel()
                [outcome] = await asyncio.gather(batch_under_way, return_exceptions=True)
                more += jobs_of(outcome, problem)
            attach_enqueued(problem, [*jobs, *more, *jobs_of(problem)])
            raise
        return jobs

    async def enqueue_job(self, function: str, *args: Any, **kwargs: Any) -> Job:
        """Puts a call of a coroutine of your own, registered with the workers as `function`, on the queue.

        Arguments are plain values or msgspec structs. Raises `InvalidRequest` for one that has no form on the wire.
        """
        try:
            payload = wire.encode_job(function, args, kwargs, _now_ms())
        except (TypeError, ValueError, OverflowError, RecursionError) as problem:
            raise InvalidRequest("arguments", str(problem)) from problem
        job_id = self._ids.take(1)[0]
        put = await self._run_enqueue([NewJob(job_id, payload, "", "", "")])
        if put.problem is not None:
            put.problem.enqueued = (Job(self, job_id),) * put.arrived  # type: ignore[union-attr]  # a cancellation takes it too
            raise put.problem
        return Job(self, job_id)

    def job(self, job_id: str) -> FetchJob:
        """The fetch job of this id, whoever enqueued it. Asks Redis nothing. Raises `InvalidRequest` for no string."""
        check_id(job_id)
        return FetchJob(self, job_id)

    async def status(self, job_id: str) -> JobStatus:
        """Where a job stands now."""
        check_id(job_id)
        with self._guarded():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.exists(self.keys.result + job_id)
                pipe.exists(self.keys.in_progress + job_id)
                pipe.zscore(self.keys.pending, job_id)
                pipe.time()
                complete, running, score, (seconds, micros) = await pipe.execute()
        if complete:
            return JobStatus.COMPLETE
        if running:
            return JobStatus.IN_PROGRESS
        if score is None:
            return JobStatus.NOT_FOUND
        return JobStatus.DEFERRED if score > seconds * 1000 + micros / 1000 else JobStatus.QUEUED

    async def cancel_many(self, job_ids: Sequence[str]) -> list[CancelOutcome]:
        """Ends many jobs, a thousand a round trip, and says of each what came of it."""
        if isinstance(job_ids, str):
            raise InvalidRequest("job_ids", "takes many; one alone is cancelled by its job's cancel()")
        for job_id in job_ids:
            check_id(job_id)
        outcomes: list[CancelOutcome] = []
        for start in range(0, len(job_ids), BATCH_JOBS):
            batch = job_ids[start : start + BATCH_JOBS]
            outcomes += await self._cancel_batch(batch, await self._payloads(batch))
        return outcomes

    async def cancel_all(
        self, *, tag: str | None = None, host: str | None = None
    ) -> AsyncGenerator[dict[CancelOutcome, int], None]:
        """Ends every job of the queue, or every fetch with the tag and of the host, in batches; gives each one's count.

        Those that wait in the host's own queue go first. What is enqueued meanwhile may or may not be among them.
        Raises `InvalidRequest` for what is no host.
        """
        host = None if host is None else host_to_cancel(host)
        is_chosen = match_filter(tag=tag, host=host)
        async with contextlib.aclosing(self._all_ids(host)) as batches:
            async for ids in batches:
                payloads = await self._payloads(ids)
                chosen = [pair for pair in zip(ids, payloads, strict=True) if is_chosen(pair[1])]
                if chosen:
                    outcomes = await self._cancel_batch([one for one, _ in chosen], [one for _, one in chosen])
                    yield dict(Counter(outcomes))

    async def _all_ids(self, first_of: str | None) -> AsyncGenerator[list[str], None]:
        """The ids of the whole queue in batches, those that wait for the host `first_of` first. Some may come twice."""
        if first_of is not None:
            async for ids in self._waiting_ids(first_of):
                yield ids
        cursor, more = 0, True
        while more:
            with self._guarded():
                cursor, scored = await self._redis.zscan(self.keys.pending, cursor, count=BATCH_JOBS)
            more = cursor != 0
            if scored:
                yield [_text(job_id) for job_id, _ in scored]

    async def _waiting_ids(self, key: str) -> AsyncGenerator[list[str], None]:
        """The ids that wait for a limit key, a few parts of its queue at a time (`lua/waiting.lua`).

        When the first part is emptied another takes its place, so that it is looked at each time.
        """
        first, index, passed = f"{self.keys.waiting}{key}", f"{self.keys.waiting}#{key}", "-inf"
        more = True
        while more:
            with self._guarded():
                places = await self._redis.zrangebyscore(index, passed, "+inf", start=0, num=_PARTS_A_CALL)
                begins = [_text(place) for place in places]
                async with self._redis.pipeline(transaction=False) as pipe:
                    for name in (first, *(f"{self.keys.waiting}#{begin} {key}" for begin in begins)):
                        pipe.zrange(name, 0, BATCH_JOBS - 1)
                    parts = await pipe.execute()
            ids = [_text(job_id) for part in parts for job_id in part]
            for start in range(0, len(ids), BATCH_JOBS):
                yield ids[start : start + BATCH_JOBS]
            more = bool(begins)
            passed = f"({begins[-1]}" if begins else passed

    async def pause(self) -> None:
        """From now on no worker of this queue starts a job. Those that run go on; more can be enqueued."""
        with self._guarded():
            await self._redis.set(self.keys.paused, "1")

    async def resume(self) -> None:
        """Ends a pause of the queue; idle workers hear of it at once."""
        with self._guarded():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(self.keys.paused)
                pipe.rpush(self.keys.wake, *["1"] * WAKE_CAP)
                pipe.ltrim(self.keys.wake, 0, WAKE_CAP - 1)
                await pipe.execute()

    async def hosts(self, *, top: int = 10) -> list[HostState]:
        """The hosts with most waiting jobs, those that cool off, and some of those that only run: `top` of each."""
        check_whole("top", top, 1, MAX_TOP)
        with self._guarded():
            return await read_hosts(self._redis, self.keys, self.limits, top)

    async def as_completed(
        self, jobs: Iterable[FetchJob], *, timeout_s: float | None = None
    ) -> AsyncGenerator[FetchResult, None]:
        """The results of `jobs` in the order in which they come.

        Raises `ResultTimeout` if they have not all come after `timeout_s`; 0 gives those that are there now. Jobs that
        have no result and never will have one are passed over, and so are results that cannot be read: the first of
        them raises its `JobNotFound` or `WireError` at the end. Raises `RedisUnavailable` as `FetchJob.result` does.
        """
        ids = list(dict.fromkeys(job.id for job in jobs))
        if timeout_s is not None and timeout_s <= 0:
            async for result in self._completed(ids):
                yield result
            return
        done: asyncio.Queue[tuple[str, asyncio.Future[bytes]]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        until = None if timeout_s is None else loop.time() + timeout_s
        missing: BaseException | None = None
        left = dict.fromkeys(ids)
        try:
            for job_id in ids:
                future = self.results.watch(job_id)
                future.add_done_callback(lambda settled, job_id=job_id: done.put_nowait((job_id, settled)))  # type: ignore[misc]
            while left:
                try:
                    async with asyncio.timeout_at(until):
                        job_id, settled = await done.get()
                except TimeoutError as problem:
                    sentence = f"{len(left)} of {len(ids)} jobs had no result after {timeout_s:g} s"
                    raise self.results.overdue(sentence) from problem
                del left[job_id]
                self.results.unwatch(job_id)
                failure = settled.exception()
                if failure is None:
                    try:
                        result = wire.decode_result(wire.decode_stored(settled.result()), job_id)
                    except WireError as problem:
                        failure = problem
                    else:
                        yield result
                missing = missing or failure
        finally:
            for job_id in left:
                self.results.unwatch(job_id)
        if missing is not None:
            raise missing

    async def _completed(self, ids: Sequence[str]) -> AsyncGenerator[FetchResult, None]:
        """Those of the results that are there; raises at the end if some are not."""
        unfinished = 0
        missing: FetchqError | None = None
        for start in range(0, len(ids), LOOK_BATCH):
            batch = ids[start : start + LOOK_BATCH]
            for job_id, found in zip(batch, await self.results.look(batch), strict=True):
                if isinstance(found, bytes):
                    try:
                        result = wire.decode_result(wire.decode_stored(found), job_id)
                    except WireError as problem:
                        missing = missing or problem
                        continue
                    yield result
                elif found is None:
                    unfinished += 1
                else:
                    missing = missing or found
        if unfinished:
            raise self.results.overdue(f"{unfinished} of {len(ids)} jobs have no result yet")
        if missing is not None:
            raise missing

    async def _enqueue_batch(self, requests: Sequence[FetchRequest]) -> list[FetchJob]:
        """One round trip. Repeating it is harmless: an id that is there already is not added again."""
        now_ms = _now_ms()
        queue = self.keys.queue
        ids = self._ids.take(len(requests))
        new: list[NewJob] = []
        for i, request in enumerate(requests):
            if request.key is not None:
                ids[i] = id_for_key(request.key, queue)
            payload = wire.encode_job(wire.FETCH_FUNCTION, (request,), {}, now_ms)
            new.append(NewJob(ids[i], payload, due_of(request), limit_key_of(request), lane_and_deadline_of(request)))
        put = await self._run_enqueue(new)
        jobs = [FetchJob(self, job_id) for job_id in ids[: put.arrived]]
        conflicts = [
            KeyConflict(request.key, ids[place])
            for place, holder in put.existing
            if (request := requests[place]).key is not None and not _holds(holder, request)
        ]
        problem: Any = put.problem
        if conflicts and not isinstance(problem, asyncio.CancelledError):
            if problem is not None:
                conflicts[0].add_note(f"fetchq: and the batch was not put whole: {problem}")
            problem = conflicts[0]
        if problem is not None:
            refused = {conflict.job_id for conflict in conflicts}
            problem.enqueued = tuple(job for job in jobs if job.id not in refused)
            raise problem
        return jobs

    async def _run_enqueue(self, jobs: Sequence[NewJob]) -> EnqueueReply:
        self._check_open()
        put = await self._writer.put(jobs)
        if not isinstance(put.problem, RedisUnavailable | asyncio.CancelledError):
            self.results.reached()
        return put

    def _check_open(self) -> None:
        if self._closed:
            raise FetchqError("the producer is closed")

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Around every command to Redis but those that enqueue."""
        self._check_open()
        with translated(self._redis):
            yield
        self.results.reached()

    async def _payloads(self, job_ids: Sequence[str]) -> list[bytes | None]:
        with self._guarded():
            return await self._redis.mget([self.keys.job + job_id for job_id in job_ids]) if job_ids else []

    async def _cancel_batch(self, job_ids: Sequence[str], payloads: Sequence[bytes | None]) -> list[CancelOutcome]:
        jobs = [
            CancelJob(job_id, *cancelled(job_id, payload, self.keys.queue))
            for job_id, payload in zip(job_ids, payloads, strict=True)
        ]
        with self._guarded():
            codes = await self._commands.cancel(self._runner, jobs)
        return [_CANCEL_OUTCOMES[code] for code in codes]


def _text(job_id: bytes) -> str:
    return job_id.decode("utf-8", "surrogateescape")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _holds(holder: bytes, request: FetchRequest) -> bool:
    """Whether a stored job or result is of the same request."""
    try:
        [held] = wire.deserialize(holder)["a"]
        return wire.decode_request(held).same_work(request)
    except (FetchqError, KeyError, TypeError, ValueError):  # of another version or another client: not the same
        return False
