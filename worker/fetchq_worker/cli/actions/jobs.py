"""`fetchq enqueue`, `result` and `cancel`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from fetchq import (
    CancelOutcome,
    FetchRequest,
    InvalidRequest,
    Job,
    JobNotFound,
    Producer,
    ResultTimeout,
    RetryPolicy,
    WireError,
    WritePolicy,
)
from fetchq.client.write_policy import WriteOptions
from fetchq.contract.wire import UNREADABLE
from fetchq_worker.cli.bulk.result_line import BodyFolder, encode_line
from fetchq_worker.cli.bulk.url_lines import read_lines
from fetchq_worker.cli.terminal.exit_status import CommandFailed, ExitStatus
from fetchq_worker.cli.terminal.redis_client import reached_producer
from fetchq_worker.cli.terminal.run import print_error
from fetchq_worker.cli.terminal.text import printable
from fetchq_worker.settings import Settings

ENQUEUE_BATCH: Final = 1000
_MAX_REPORTS: Final = 10
_LEAST_ANSWER_S: Final = 1.0
"""A result that exists is printed with any timeout, 0 included."""
PROGRESS_S: Final = 2.0
"""Time between two lines of progress."""


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


async def enqueue(
    urls: Sequence[str], from_file: str | None, options: EnqueueOptions, writing: WriteOptions, settings: Settings
) -> ExitStatus:
    """Prints a job id a line. Raises `InvalidRequest` for a bad URL among `urls`, before anything is enqueued."""
    WritePolicy.of(writing)  # checked before Redis is asked
    if not urls and from_file is None:
        raise CommandFailed("give URLs, or a file of them with --from (- is stdin)", ExitStatus.USAGE)
    if options.key is not None and (len(urls) != 1 or from_file is not None):
        raise CommandFailed("--key takes one URL: it names one job", ExitStatus.USAGE)
    fields = _fields(options)
    FetchRequest.of("http://localhost/", **fields)  # checks the options before a file is read
    requests = [FetchRequest.of(url, **fields) for url in urls]
    rejected = 0
    async with reached_producer(settings, **writing) as producer:
        await _enqueue(producer, requests)
        if from_file is not None:
            async with contextlib.aclosing(read_lines(from_file)) as batches:
                async for lines in batches:
                    requests = []
                    for line in lines:
                        try:
                            requests.append(FetchRequest.of(line, **fields))
                        except InvalidRequest as problem:
                            rejected += 1
                            if rejected <= _MAX_REPORTS:
                                print_error(f"skipped: {problem}")
                    await _enqueue(producer, requests)
    if rejected > _MAX_REPORTS:
        print_error(f"skipped {rejected:,} lines in all")
    return ExitStatus.USAGE if rejected else ExitStatus.OK


async def show_result(
    job_id: str, timeout_s: float | None, bodies: str | None, raw: bool, settings: Settings
) -> ExitStatus:
    """Prints a result as JSON, or with `raw` its body alone, unchanged. `timeout_s` limits Redis's answer too."""
    folder = BodyFolder(Path(bodies)) if bodies is not None else None
    until_s = None if timeout_s is None else time.monotonic() + timeout_s
    answer_s = None if timeout_s is None else max(timeout_s, _LEAST_ANSWER_S)
    async with reached_producer(settings, answer_s=answer_s) as producer:
        job = producer.job(job_id)
        left_s = None if until_s is None else max(0.0, until_s - time.monotonic())
        try:
            result = await job.result(left_s)
        except ResultTimeout as problem:
            raise ResultTimeout(f"job {job_id} had no result after {timeout_s:g} s") from problem
        except WireError:  # the result of another coroutine; anything else raises again
            value = await job.value(left_s)
            sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
            return ExitStatus.OK
    sys.stdout.buffer.write(result.body if raw else encode_line(result.url, result, folder))
    if not result.ok:
        print_error(f"{result.status}: {result.error or f'HTTP {result.http_status}'}")
        return ExitStatus.FAILED
    return ExitStatus.OK


async def cancel(
    job_ids: Sequence[str], tag: str | None, host: str | None, everything: bool, settings: Settings
) -> ExitStatus:
    """Prints the outcome of each job, a line each; for a filter, the counts."""
    if (bool(job_ids), tag is not None or host is not None, everything).count(True) != 1:
        sentence = "give job ids, or --tag TAG or --host HOST, or --all"
        raise CommandFailed(sentence, ExitStatus.USAGE)
    if not job_ids:
        return await _cancel_all(tag, host, settings)
    async with reached_producer(settings) as producer:
        outcomes = await producer.cancel_many(job_ids)
    for job_id, outcome in zip(job_ids, outcomes, strict=True):
        sys.stdout.write(f"{printable(job_id)} {outcome}\n")
    if CancelOutcome.NOT_FOUND in outcomes:
        raise CommandFailed(str(JobNotFound(job_ids[outcomes.index(CancelOutcome.NOT_FOUND)])), ExitStatus.FAILED)
    return ExitStatus.OK


async def _cancel_all(tag: str | None, host: str | None, settings: Settings) -> ExitStatus:
    total: Counter[CancelOutcome] = Counter()
    shown_at = time.monotonic()
    async with reached_producer(settings) as producer:
        async for counts in producer.cancel_all(tag=tag, host=host):
            total.update(counts)
            if time.monotonic() - shown_at >= PROGRESS_S:
                shown_at = time.monotonic()
                print_error(f"{total.total():,} jobs so far")
    cancelled, requested = total[CancelOutcome.CANCELLED], total[CancelOutcome.REQUESTED]
    sys.stdout.write(f"{cancelled} cancelled, {requested} running and asked to stop\n")
    return ExitStatus.OK


async def _enqueue(producer: Producer, requests: Sequence[FetchRequest]) -> None:
    for start in range(0, len(requests), ENQUEUE_BATCH):
        jobs: Sequence[Job] = ()
        try:
            jobs = await producer.enqueue_many(requests[start : start + ENQUEUE_BATCH])
        except BaseException as problem:
            jobs = getattr(problem, "enqueued", ())
            raise
        finally:
            sys.stdout.write("".join(f"{job.id}\n" for job in jobs))
            sys.stdout.flush()


def _fields(options: EnqueueOptions) -> dict[str, Any]:
    body = _body(options)
    deadline = None
    if options.deadline_s is not None:
        if not options.deadline_s > 0:
            raise CommandFailed(
                f"--deadline-s takes a positive number of seconds, not {options.deadline_s:g}", ExitStatus.USAGE
            )
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
    if options.body is not None and options.body_file is not None:
        raise CommandFailed("give --body or --body-file, not both", ExitStatus.USAGE)
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
