"""`fetchq enqueue`: puts fetches on the queue and prints their ids."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from fetchq import FetchRequest, InvalidRequest, Job, Producer, RetryPolicy, WritePolicy
from fetchq.client.write.policy import WriteOptions
from fetchq.command.exit_status import CannotWrite, CommandFailed, ExitStatus
from fetchq.command.streams import print_error, say, why_not_written
from fetchq.contract.wire import UNREADABLE
from fetchq_worker.cli.bulk.url_hint import hint_for
from fetchq_worker.cli.bulk.url_lines import read_lines
from fetchq_worker.cli.terminal.redis_client import reached_producer
from fetchq_worker.settings import Settings

ENQUEUE_BATCH: Final = 1000
_MAX_REPORTS: Final = 10
_NEEDS: Final = (
    ("replicas", "--replicas", "durability", ("replicated",)),
    ("durable_timeout_s", "--durable-timeout", "durability", ("fsync", "replicated")),
    ("full_timeout_s", "--full-timeout", "when_full", ("wait",)),
)
"""Options that have a meaning only with certain values of another."""


class EnqueueOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of every request of one `fetchq enqueue`."""

    method: str | None = None
    headers: Sequence[str] = ()
    """Each `Name: value`."""
    body: str | None = None
    body_file: str | None = None
    json: str | None = None
    form: Sequence[str] = ()
    """Each `name=value`."""
    credential: str | None = None
    proxy: str | None = None
    cookies: bool = False
    cache: bool = False
    verify_tls: bool = True
    priority: str = "default"
    limit_key: str | None = None
    robots: bool = False
    etag: str | None = None
    last_modified: str | None = None
    timeout_s: float
    max_bytes: int
    max_redirects: int
    max_tries: int
    retry_non_idempotent: bool = False
    delay_s: float = 0.0
    deadline_s: float | None = None
    """Counted from now."""
    key: str | None = None
    result_ttl_s: float
    tags: Sequence[str] = ()


class Ids:
    """Prints the ids of enqueued jobs on stdout, and on stderr those that stdout does not take."""

    def __init__(self) -> None:
        self.enqueued = 0
        os.set_blocking(1, True)

    def print(self, jobs: Sequence[Job]) -> None:
        """Raises `CommandFailed` if stdout cannot be written: the jobs are enqueued all the same."""
        self.enqueued += len(jobs)
        lines = "".join(f"{job.id}\n" for job in jobs).encode()
        written = 0
        try:
            while written < len(lines):
                written += os.write(1, lines[written:])
        except OSError as problem:
            if problem.errno == errno.EPIPE:
                raise CannotWrite("to stdout", problem) from problem
            rest = jobs[lines[:written].count(b"\n") :]
            what = "1 job is" if self.enqueued == 1 else f"{self.enqueued:,} jobs are"
            print_error(
                f"cannot write to stdout: {why_not_written(problem)}; {what} enqueued, "
                f"do not enqueue again. Ids that are not on stdout:"
            )
            say("".join(f"{job.id}\n" for job in rest))
            raise CommandFailed("", ExitStatus.FAILED) from problem


async def enqueue(
    urls: Sequence[str], from_file: str | None, options: EnqueueOptions, writing: WriteOptions, settings: Settings
) -> ExitStatus:
    """Prints a job id a line. Raises `InvalidRequest` for a bad URL among `urls`, before anything is enqueued."""
    _refuse_contradictions(urls, from_file, options, writing)
    WritePolicy.of(writing)  # checked before Redis is asked
    fields = _fields(options)
    FetchRequest.of("http://localhost/", **fields)  # checks the options before a file is read
    requests = [_request_of(url, fields) for url in urls]
    batches_of_file = None if from_file is None else read_lines(from_file)
    rejected = 0
    ids = Ids()
    async with _said_if_stopped(ids), reached_producer(settings, **writing) as producer:
        await _enqueue(producer, requests, ids)
        if batches_of_file is not None:
            async with contextlib.aclosing(batches_of_file) as batches:
                async for lines in batches:
                    requests = []
                    for line in lines:
                        try:
                            requests.append(_request_of(line, fields, may_be_file=False))
                        except InvalidRequest as problem:
                            rejected += 1
                            if rejected <= _MAX_REPORTS:
                                print_error(f"skipped: {problem.problem if problem.field == 'url' else problem}")
                    await _enqueue(producer, requests, ids)
    if rejected > _MAX_REPORTS:
        print_error(f"skipped {rejected:,} lines in all")
    return ExitStatus.USAGE if rejected else ExitStatus.OK


@contextlib.asynccontextmanager
async def _said_if_stopped(ids: Ids) -> AsyncIterator[None]:
    """Says how many jobs are enqueued if Ctrl-C ends the block."""
    try:
        yield
    except asyncio.CancelledError:
        print_error(f"stopped; jobs enqueued, with their ids on stdout: {ids.enqueued:,}")
        raise


async def _enqueue(producer: Producer, requests: Sequence[FetchRequest], ids: Ids) -> None:
    for start in range(0, len(requests), ENQUEUE_BATCH):
        jobs: Sequence[Job] = ()
        try:
            jobs = await producer.enqueue_many(requests[start : start + ENQUEUE_BATCH])
        except BaseException as problem:
            jobs = getattr(problem, "enqueued", ())
            raise
        finally:
            ids.print(jobs)


def _refuse_contradictions(
    urls: Sequence[str], from_file: str | None, options: EnqueueOptions, writing: WriteOptions
) -> None:
    sentence = ""
    if not urls and from_file is None:
        sentence = "give URLs, or a file of them with --from (- is stdin)"
    elif options.key is not None and (len(urls) != 1 or from_file is not None):
        sentence = "--key takes one URL: it names one job"
    elif from_file == "-" and options.body_file == "-":
        sentence = "--from - and --body-file - would both read stdin: give one of them a file"
    elif options.body is not None and options.body_file is not None:
        sentence = "give --body or --body-file, not both"
    for name, flag, other, values in _NEEDS:
        if name in writing and writing.get(other) not in values:
            sentence = sentence or f"{flag} needs --{other.replace('_', '-')} {' or '.join(values)}"
    if sentence:
        raise CommandFailed(sentence, ExitStatus.USAGE)


def _request_of(url: str, fields: dict[str, Any], *, may_be_file: bool = True) -> FetchRequest:
    """Raises `InvalidRequest`, for a URL with a hint at what was meant."""
    try:
        return FetchRequest.of(url, **fields)
    except InvalidRequest as problem:
        hint = hint_for(url, may_be_file=may_be_file) if problem.field == "url" else ""
        raise InvalidRequest(problem.field, f"{problem.problem}{hint}") from problem


def _fields(options: EnqueueOptions) -> dict[str, Any]:
    body = _body(options)
    deadline = None
    if options.deadline_s is not None:
        if not options.deadline_s > 0:
            raise CommandFailed("--deadline takes a time after now", ExitStatus.USAGE)
        deadline = datetime.now(UTC) + timedelta(seconds=options.deadline_s)
    given: dict[str, Any] = {
        "method": options.method or ("POST" if body is not None else None),
        "headers": [_header(text) for text in options.headers],
        "body": body,
        "json": _json(options.json),
        "form": [_form_field(text) for text in options.form] or None,
        "credential": options.credential,
        "proxy": options.proxy,
        "cookies": options.cookies,
        "cache": options.cache,
        "verify_tls": options.verify_tls,
        "priority": options.priority,
        "limit_key": options.limit_key,
        "robots": options.robots,
        "etag": options.etag,
        "last_modified": options.last_modified,
        "timeout_s": options.timeout_s,
        "max_bytes": options.max_bytes,
        "max_redirects": options.max_redirects,
        "retry": RetryPolicy(max_tries=options.max_tries),
        "retry_non_idempotent": options.retry_non_idempotent,
        "delay_s": options.delay_s,
        "deadline": deadline,
        "key": options.key,
        "result_ttl_s": options.result_ttl_s,
        "tags": options.tags,
    }
    return {name: value for name, value in given.items() if value is not None}


def _body(options: EnqueueOptions) -> bytes | None:
    if options.body is not None:
        return options.body.encode("utf-8", "surrogateescape")
    if options.body_file is None:
        return None
    try:
        if options.body_file == "-":
            return sys.stdin.buffer.read()
        return Path(options.body_file).read_bytes()
    except OSError as problem:
        raise CommandFailed(f"cannot read {options.body_file}: {problem.strerror}", ExitStatus.USAGE) from problem


def _json(text: str | None) -> msgspec.Raw | None:
    """The text itself, checked to be JSON; sent unchanged."""
    if text is None:
        return None
    try:
        msgspec.json.decode(text)
    except UNREADABLE as problem:
        raise CommandFailed(f"--json takes JSON: {problem}", ExitStatus.USAGE) from problem
    return msgspec.Raw(text.encode())


def _form_field(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandFailed(f"--form takes name=value, not {text!r}", ExitStatus.USAGE)
    return name, value


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise CommandFailed(f"--header takes 'Name: value', not {text!r}", ExitStatus.USAGE)
    return name.strip(), value.strip()
