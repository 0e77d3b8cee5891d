"""Runs a list of URLs through the queue: keeps a window of jobs in flight and writes each result as it arrives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable
from functools import partial
from typing import Final

from redis.asyncio import Redis

from fetchq import (
    FetchqError,
    FetchRequest,
    FetchResult,
    FetchStatus,
    JobNotFound,
    Producer,
    WireError,
)
from fetchq.contract import wire
from fetchq.store.errors import translated
from fetchq.tasks import cancel_and_wait

from .requests import RequestSource, Wanted
from .result_file import LineSink
from .result_line import BodyFolder, encode_line
from .summary import Summary

MIN_WINDOW: Final = 1000
WINDOW_PER_SLOT: Final = 4
"""Jobs in flight for each slot of the worker, so that it never waits for a job."""
ENQUEUE_BATCH: Final = 250
MAX_UNWRITTEN_BYTES: Final = 32 << 20
"""Above this, nothing is enqueued: the reader of the output is slower than the fetches."""
_WRITE_BYTES: Final = 1 << 20
_CANCEL_TIMEOUT_S: Final = 3.0

Arrived = tuple[str, str, "bytes | FetchResult"]
"""A URL as given, its job's id, and its result; bytes are a result of Redis, not decoded yet."""


class FetchRun:
    """One run over one list. Written results are in `summary`; results not written yet are bounded in size."""

    def __init__(
        self,
        producer: Producer,
        redis: Redis,
        requests: RequestSource,
        sink: LineSink,
        *,
        bodies: BodyFolder | None = None,
        concurrency: int,
    ) -> None:
        self._producer = producer
        self._redis = redis
        self._requests = requests
        self._sink = sink
        self._bodies = bodies
        self._window = max(MIN_WINDOW, WINDOW_PER_SLOT * concurrency)
        self._in_flight: dict[str, str] = {}  # job id to URL as given
        self._arrived: list[Arrived] = []
        self._unwritten_bytes = 0
        self._failure: FetchqError | None = None
        self._wakeup = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._below_limits = asyncio.Event()
        self.summary: Final = Summary()
        self.read_to_end = False
        """Whether the whole list has been read, so that `requests.count` is final."""

    def __repr__(self) -> str:
        return f"<FetchRun in_flight={len(self._in_flight)} done={self.summary.done}>"

    def stop(self) -> None:
        """Ends `run` once the results that have arrived are written. For signal handlers of the loop too."""
        self._stop_asked.set()
        self._wakeup.set()

    async def run(self, lines: AsyncIterable[list[str]]) -> None:
        """Returns when every URL has its line, or after `stop`.

        Raises `CommandFailed` if the output cannot be written and `RedisUnavailable` if Redis is lost; results that
        arrived before are written.
        """
        feeder = asyncio.create_task(self._feed(lines), name="fetchq-feed")
        feeder.add_done_callback(lambda _: self._wakeup.set())
        try:
            while not self._stop_asked.is_set():
                await self._wakeup.wait()
                self._wakeup.clear()
                await self._write_arrived()
                if self._failure is not None:
                    raise self._failure
                if feeder.done():
                    feeder.result()
                    if not self._in_flight and not self._arrived:
                        return
            await self._write_arrived()
        finally:
            await cancel_and_wait(feeder)
            await asyncio.gather(
                feeder, return_exceptions=True
            )  # its exception was raised above, or the run is stopping
            for job_id in self._in_flight:
                self._producer.results.unwatch(job_id)

    async def cancel_rest(self) -> None:
        """Cancels the jobs in flight on a shared Redis, for at most a few seconds."""
        left = list(self._in_flight)
        with contextlib.suppress(FetchqError, TimeoutError):  # other workers fetch the rest
            async with asyncio.timeout(_CANCEL_TIMEOUT_S):
                await self._producer.cancel_many(left)
                await self._delete_results(left)

    async def _feed(self, lines: AsyncIterable[list[str]]) -> None:
        async for batch in lines:
            for start in range(0, len(batch), ENQUEUE_BATCH):
                wanted = self._requests.parse(batch[start : start + ENQUEUE_BATCH])
                await self._wait_below_limits(len(wanted))
                await self._enqueue(wanted)
        self.read_to_end = True

    async def _wait_below_limits(self, count: int) -> None:
        while len(self._in_flight) + count > self._window or self._unwritten_bytes > MAX_UNWRITTEN_BYTES:
            self._below_limits.clear()
            await self._below_limits.wait()

    async def _enqueue(self, wanted: list[Wanted]) -> None:
        jobs = [(url, request) for url, request in wanted if isinstance(request, FetchRequest)]
        for url, refused in wanted:
            if isinstance(refused, FetchResult):
                self._add_arrived(url, "", refused)
        handles = await self._producer.enqueue_many([request for _, request in jobs])
        for handle, (url, _) in zip(handles, jobs, strict=True):
            self._in_flight[handle.id] = url
            future = self._producer.results.watch(handle.id)
            future.add_done_callback(partial(self._on_done, handle.id))

    def _on_done(self, job_id: str, future: asyncio.Future[bytes]) -> None:
        """Called by the loop when a result has arrived, or cannot arrive."""
        if future.cancelled():
            return
        problem = future.exception()
        if problem is None:
            outcome: bytes | FetchResult = future.result()
        elif isinstance(problem, JobNotFound):
            url = self._in_flight[job_id]
            error = "the job is missing from Redis: it was deleted, or Redis lost its data"
            outcome = FetchResult(id=job_id, url=url, status=FetchStatus.INTERNAL_ERROR, error=error)
        else:
            self._failure = problem if isinstance(problem, FetchqError) else FetchqError(str(problem))
            self._wakeup.set()
            return
        self._producer.results.unwatch(job_id)
        self._add_arrived(self._in_flight.pop(job_id), job_id, outcome)

    def _add_arrived(self, url: str, job_id: str, outcome: bytes | FetchResult) -> None:
        self._arrived.append((url, job_id, outcome))
        self._unwritten_bytes += len(outcome) if isinstance(outcome, bytes) else 0
        self._wakeup.set()

    async def _write_arrived(self) -> None:
        arrived, self._arrived = self._arrived, []
        if not arrived:
            return
        # In a thread: a slow disk or a slow reader of stdout must not block the fetches.
        await asyncio.to_thread(self._write, arrived)
        self._unwritten_bytes -= sum(len(outcome) for _, _, outcome in arrived if isinstance(outcome, bytes))
        self._below_limits.set()
        await self._delete_results([job_id for _, job_id, _ in arrived if job_id])

    def _write(self, arrived: list[Arrived]) -> None:
        lines: list[bytes] = []
        results: list[FetchResult] = []
        size = 0
        for url, job_id, outcome in arrived:
            result = _decoded(url, job_id, outcome) if isinstance(outcome, bytes) else outcome
            line = encode_line(url, result, self._bodies)
            lines.append(line)
            results.append(result)
            size += len(line)
            if size > _WRITE_BYTES:
                self._flush(lines, results)
                size = 0
        self._flush(lines, results)

    def _flush(self, lines: list[bytes], results: list[FetchResult]) -> None:
        """Writes the lines; counts results only once they are written."""
        self._sink.write(b"".join(lines))
        for result in results:
            self.summary.add(result)
        lines.clear()
        results.clear()

    async def _delete_results(self, job_ids: list[str]) -> None:
        """Deletes written results, which would fill Redis until their TTL.

        After `stop`, a Redis that hangs delays the end only for a few seconds.
        """
        if not job_ids:
            return
        prefix = self._producer.keys.result
        unlinking = asyncio.ensure_future(self._redis.unlink(*(prefix + job_id for job_id in job_ids)))
        stop_asked = asyncio.create_task(self._stop_asked.wait())
        try:
            await asyncio.wait((unlinking, stop_asked), return_when=asyncio.FIRST_COMPLETED)
            if not unlinking.done():
                await asyncio.wait((unlinking,), timeout=_CANCEL_TIMEOUT_S)
            if unlinking.done():
                with translated(self._redis):
                    unlinking.result()
        finally:
            stop_asked.cancel()
            unlinking.cancel()


def _decoded(url: str, job_id: str, stored: bytes) -> FetchResult:
    try:
        return wire.decode_result(wire.decode_stored(stored), job_id)
    except WireError as problem:  # written by another program
        return FetchResult(
            id=job_id, url=url, status=FetchStatus.INTERNAL_ERROR, error=f"the result cannot be read: {problem}"
        )
