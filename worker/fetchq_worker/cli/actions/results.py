"""`fetchq result`: waits for results and writes them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from fetchq import FetchqError, FetchResult, JobFailed, JobNotFound, Producer, ResultTimeout, WireError
from fetchq.client.results import CHECK_BATCH
from fetchq.command.exit_status import CommandFailed, ExitStatus
from fetchq.command.streams import print_error
from fetchq.contract import wire
from fetchq.contract.job_ids import check_id
from fetchq.tasks import cancel_and_wait
from fetchq_worker.cli.bulk.result_file import LineSink, ResultFile, StdoutLines, refuse_same_file
from fetchq_worker.cli.bulk.result_line import BodyFolder, encode_line
from fetchq_worker.cli.bulk.url_lines import read_lines
from fetchq_worker.cli.terminal.redis_client import reached_producer
from fetchq_worker.settings import Settings

_LEAST_ANSWER_S: Final = 1.0
"""A result that exists is printed with any timeout, 0 included."""
_WINDOW: Final = 1000
"""Ids that are waited for at a time; later ones are read when one of them has its result."""
_MAX_REPORTS: Final = 10
_UNREADABLE: Final = "<unknown>"
"""The function of a job whose payload could not be read, most likely that of a fetch."""

_encoder: Final = msgspec.json.Encoder()
_Found = tuple[str, "bytes | FetchqError"]
"""An id, and its stored result or why there is none."""


class ResultOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the command line."""

    from_file: str | None = None
    out: str | None = None
    timeout_s: float | None = None
    raw: bool = False
    """The body of one job, alone."""
    bodies: str | None = None

    @property
    def many(self) -> bool:
        """Whether a line is written for each id, also for one without a result."""
        return self.from_file is not None or self.out is not None


async def show_results(job_ids: Sequence[str], options: ResultOptions, settings: Settings) -> ExitStatus:
    """Prints the result of one job, or a line for each of several, in the order in which they arrive."""
    if not job_ids and options.from_file is None:
        raise CommandFailed("give job ids, or a file of them with --from (- is stdin)", ExitStatus.USAGE)
    refuse_same_file(options.from_file, options.out)
    if options.raw and (len(job_ids) != 1 or options.many or options.bodies is not None):
        raise CommandFailed("--body takes one id, and neither --from, --out nor --bodies", ExitStatus.USAGE)
    if options.timeout_s is not None and options.timeout_s < 0:
        raise CommandFailed("--timeout takes a time from 0", ExitStatus.USAGE)
    folder = BodyFolder(Path(options.bodies)) if options.bodies is not None else None
    until_s = None if options.timeout_s is None else time.monotonic() + options.timeout_s
    answer_s = None if options.timeout_s is None else max(options.timeout_s, _LEAST_ANSWER_S)
    if len(job_ids) == 1 and not options.many:
        async with reached_producer(settings, answer_s=answer_s) as producer:
            return await _show_one(producer, job_ids[0], until_s, options, folder)
    to_stdout = options.out in (None, "-")
    sink: LineSink = StdoutLines() if to_stdout else ResultFile(Path(options.out or ""), resume=None)
    try:
        async with reached_producer(settings, answer_s=answer_s) as producer:
            return await _show_many(Waits(producer, until_s, options.timeout_s), _ids(job_ids, options), sink, folder)
    finally:
        sink.close()


async def _show_one(
    producer: Producer, job_id: str, until_s: float | None, options: ResultOptions, folder: BodyFolder | None
) -> ExitStatus:
    left_s = None if until_s is None else max(0.0, until_s - time.monotonic())
    job = producer.job(job_id)
    try:
        result = await job.result(left_s)
    except ResultTimeout as problem:
        raise ResultTimeout(f"job {job_id} had no result after {options.timeout_s:g} s") from problem
    except WireError:  # the result of another coroutine; anything else raises again
        sys.stdout.buffer.write(_encoder.encode(await job.value(left_s)) + b"\n")
        return ExitStatus.OK
    sys.stdout.buffer.write(result.body if options.raw else encode_line(result.url, result, folder))
    if not result.ok:
        print_error(_why_failed(result))
        return ExitStatus.FAILED
    return ExitStatus.OK


async def _show_many(
    waits: Waits, ids: AsyncIterable[list[str]], sink: LineSink, folder: BodyFolder | None
) -> ExitStatus:
    count = failed = 0
    async with contextlib.aclosing(waits.found(ids)) as each:
        async for job_id, outcome in each:
            line, problem = _line_of(job_id, outcome, folder)
            await asyncio.to_thread(sink.write, line)
            count += 1
            if problem:
                failed += 1
                if failed <= _MAX_REPORTS:
                    print_error(problem)
    if failed > _MAX_REPORTS:
        print_error(f"{failed:,} of {count:,} jobs failed or have no result")
    return ExitStatus.FAILED if failed else ExitStatus.OK


class Waits:
    """Waits for the results of many jobs, a bounded number at a time."""

    def __init__(self, producer: Producer, until_s: float | None, timeout_s: float | None) -> None:
        self._results = producer.results
        self._until_s = until_s
        self._timeout_s = timeout_s
        self._places = asyncio.Semaphore(_WINDOW)
        self._arrived: asyncio.Queue[_Found | None] = asyncio.Queue()
        self._few_arrived = asyncio.Event()

    async def found(self, ids: AsyncIterable[list[str]]) -> AsyncGenerator[_Found, None]:
        """Each id with its outcome, in the order of arrival. Raises `RedisUnavailable` and `RedisRefused`."""
        feeding = asyncio.create_task(self._feed(ids), name="fetchq-result-ids")
        feeding.add_done_callback(lambda _: self._arrived.put_nowait(None))
        try:
            while (one := await self._arrived.get()) is not None:
                yield one
                self._places.release()
                if self._arrived.qsize() <= CHECK_BATCH:
                    self._few_arrived.set()
            await feeding
        finally:
            await cancel_and_wait(feeding)

    async def _feed(self, ids: AsyncIterable[list[str]]) -> None:
        try:
            async with asyncio.TaskGroup() as waits:
                async for batch in ids:
                    for start in range(0, len(batch), CHECK_BATCH):
                        await self._wait_for_writes()
                        await self._check(batch[start : start + CHECK_BATCH], waits)
        except* FetchqError as problems:
            raise problems.exceptions[0] from None

    async def _wait_for_writes(self) -> None:
        """Reads no further results while many are not written yet, since each may have megabytes."""
        while self._arrived.qsize() > CHECK_BATCH:
            self._few_arrived.clear()
            await self._few_arrived.wait()

    async def _check(self, batch: Sequence[str], waits: asyncio.TaskGroup) -> None:
        """Reads the results that exist in one call, and waits for the others."""
        for _ in batch:
            await self._places.acquire()
        for job_id, stored in zip(batch, await self._results.check(batch), strict=True):
            if stored is not None:
                self._arrived.put_nowait((job_id, stored))
            elif (left_s := self._left_s()) == 0:
                self._arrived.put_nowait((job_id, self._overdue(job_id)))
            else:
                waits.create_task(self._wait(job_id, left_s))

    async def _wait(self, job_id: str, left_s: float | None) -> None:
        try:
            stored: bytes | FetchqError = await self._results.wait(job_id, left_s)
        except JobNotFound as problem:
            stored = problem
        except ResultTimeout:
            stored = self._overdue(job_id)
        self._arrived.put_nowait((job_id, stored))

    def _left_s(self) -> float | None:
        return None if self._until_s is None else max(0.0, self._until_s - time.monotonic())

    def _overdue(self, job_id: str) -> ResultTimeout:
        return ResultTimeout(f"job {job_id} had no result after {self._timeout_s:g} s")


async def _ids(job_ids: Sequence[str], options: ResultOptions) -> AsyncGenerator[list[str], None]:
    for job_id in job_ids:
        check_id(job_id)
    if job_ids:
        yield list(job_ids)
    if options.from_file is not None:
        async with contextlib.aclosing(read_lines(options.from_file)) as batches:
            async for batch in batches:
                yield batch


def _line_of(job_id: str, outcome: bytes | FetchqError, folder: BodyFolder | None) -> tuple[bytes, str]:
    """The line of a job, and the sentence about its failure; empty for a success."""
    if isinstance(outcome, FetchqError):
        return _line(id=job_id, error=str(outcome)), str(outcome)
    try:
        stored = wire.decode_stored(outcome)
        if stored.function not in (wire.FETCH_FUNCTION, _UNREADABLE):
            return _line(id=job_id, value=wire.decode_value(stored)), ""
        result = wire.decode_result(stored, job_id)
        return encode_line(result.url, result, folder), "" if result.ok else f"job {job_id}: {_why_failed(result)}"
    except (JobFailed, WireError) as problem:
        return _line(id=job_id, error=str(problem)), f"job {job_id}: {problem}"


def _line(**fields: Any) -> bytes:
    return _encoder.encode(fields) + b"\n"


def _why_failed(result: FetchResult) -> str:
    return f"{result.status}: {result.error or f'HTTP {result.http_status}'}"
