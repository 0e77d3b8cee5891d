"""`fetchq fetch`: fetches a list of URLs and writes a line of JSON for each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from fetchq import RedisUnavailable
from fetchq.client.limits import EVERY_HOST
from fetchq.command.exit_status import CannotWrite, CommandFailed, ExitStatus
from fetchq.command.run import on_stop_signal
from fetchq.command.streams import print_error, print_line
from fetchq.logs.setup import LogLevel
from fetchq.store.errors import translated
from fetchq_worker.cli.terminal.logs import configure_worker_logs
from fetchq_worker.cli.terminal.progress import How, Progress, make_progress
from fetchq_worker.settings import Settings

from .fetch_run import FetchRun
from .in_process import InProcess, in_process
from .pauses import said_pauses
from .requests import MAX_RETRY_AFTER_S, FetchLimits, FetchManner, RequestSource
from .result_file import LineSink, ResultFile, StdoutLines, refuse_same_file
from .result_line import BodyFolder
from .url_lines import count_lines, read_lines

FIRST_COOLDOWN_S: Final = 1.0
"""The same as the first delay before a retry."""


class FetchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the command line."""

    urls: Sequence[str] = ()
    from_file: str | None = None
    out: str | None = None
    """A path; None or `-`: stdout."""
    resume: bool = False
    bodies: str | None = None
    embedded: bool = True
    """Whether the run has a private Redis."""
    per_host: int | None = None
    """Fetches of one host at a time; only on a private Redis, since the limit applies to all its workers."""
    progress: How = "auto"
    limits: FetchLimits = FetchLimits()
    manner: FetchManner = FetchManner()

    @property
    def out_path(self) -> Path | None:
        return None if self.out in (None, "-") else Path(self.out or "")


async def fetch(options: FetchOptions, settings: Settings) -> ExitStatus:
    """Runs the command; raises `FetchqError`."""
    configure_worker_logs(LogLevel.ERROR)
    logging.getLogger("fetchq.engine").setLevel("CRITICAL")  # a lost Redis is reported once, at the end
    if not options.urls and options.from_file is None:
        raise CommandFailed("give URLs, or a file of them with --from (- is stdin)", ExitStatus.USAGE)
    if options.resume and options.out_path is None:
        raise CommandFailed("--resume needs --out FILE, the file to continue", ExitStatus.USAGE)
    refuse_same_file(options.from_file, options.out)
    if options.per_host is not None and not options.embedded:
        sentence = "--per-host would limit all workers of that Redis; use fetchq limits set '*' --concurrency N"
        raise CommandFailed(sentence, ExitStatus.USAGE)
    requests = RequestSource(options.limits, options.manner, options.urls)
    bodies = BodyFolder(Path(options.bodies)) if options.bodies is not None else None
    sink = _open_sink(options, requests)
    try:
        async with in_process(_for_a_terminal(settings), embedded=options.embedded) as here:
            if options.per_host is not None:
                await here.producer.limits.set(EVERY_HOST, concurrency=options.per_host)
            run = FetchRun(here.producer, here.redis, requests, sink, bodies=bodies, concurrency=settings.concurrency)
            status = await _fetch_all(run, here, options, requests)
            return ExitStatus.FAILED if status is ExitStatus.OK and requests.failed_before else status
    finally:
        sink.close()


def _for_a_terminal(settings: Settings) -> Settings:
    """Short cooldowns and no circuit breaker, since a person waits for the run."""
    return msgspec.structs.replace(
        settings, cooldown_s=FIRST_COOLDOWN_S, max_cooldown_s=MAX_RETRY_AFTER_S, circuit_breaker=False
    )


def _open_sink(options: FetchOptions, requests: RequestSource) -> LineSink:
    path = options.out_path
    if path is None:
        return StdoutLines()
    file = ResultFile(path, resume=options.resume)
    try:
        for line in file.truncate_partial_line():
            requests.skip(line.url, ok=line.ok)
    except BaseException:
        file.close()
        raise
    return file


async def _fetch_all(run: FetchRun, here: InProcess, options: FetchOptions, requests: RequestSource) -> ExitStatus:
    started_s = ended_s = time.monotonic()
    stopped_by: signal.Signals | None = None
    quiet = False

    def stop(signum: signal.Signals) -> None:
        nonlocal stopped_by
        stopped_by = signum
        run.stop()

    progress = make_progress(stdout_is_results=options.out_path is None, how=options.progress)
    showing = asyncio.create_task(_show(progress, run, requests, _at_most(options)), name="fetchq-progress")
    running = asyncio.create_task(run.run(_lines(options)), name="fetchq-run")
    try:
        with on_stop_signal(stop), said_pauses(progress):
            await _wait_for_end(run, running, here)
            ended_s = time.monotonic()
            showing.cancel()
            progress.close()
            if not options.embedded:
                await here.stop_worker()
                await run.cancel_rest()
            running.result()
    except CannotWrite as problem:
        quiet = problem.status is ExitStatus.PIPE_CLOSED
        if quiet or options.out_path is None:
            raise
        raise CommandFailed(f"{problem}; {_how_to_continue(options)}", problem.status) from problem
    except CommandFailed as problem:
        quiet = problem.status is ExitStatus.USAGE and not run.summary.done
        raise
    except RedisUnavailable as problem:
        raise CommandFailed(f"{problem}; {_how_to_continue(options)}", ExitStatus.NO_REDIS) from problem
    finally:
        showing.cancel()
        progress.close()
        if not quiet:
            _print_summary(run, requests, ended_s - started_s)
    if stopped_by is not None:
        print_error(f"stopped; {_how_to_continue(options)}")
        return ExitStatus.INTERRUPTED if stopped_by is signal.SIGINT else ExitStatus.TERMINATED
    return ExitStatus.FAILED if run.summary.failed else ExitStatus.OK


async def _wait_for_end(run: FetchRun, running: asyncio.Task[None], here: InProcess) -> None:
    """Returns when `running` has ended, in success or failure; raises if the worker ends first."""
    await asyncio.wait([running, here.working], return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        run.stop()
        await running
        with translated(here.redis):
            here.working.result()  # raises the reason
        raise CommandFailed("the worker stopped before the run was complete", ExitStatus.FAILED)


async def _lines(options: FetchOptions) -> AsyncIterator[list[str]]:
    if options.urls:
        # Bytes of the command line that are not UTF-8 come as surrogates (PEP 383), which JSON cannot hold.
        yield [url.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for url in options.urls]
    if options.from_file is not None:
        async with contextlib.aclosing(read_lines(options.from_file)) as batches:
            async for batch in batches:
                yield batch


def _at_most(options: FetchOptions) -> int | None:
    """The number of lines and arguments, duplicates included; None if it is unknown before they are read."""
    if options.from_file is None:
        return len(options.urls)
    lines = None if options.from_file == "-" else count_lines(Path(options.from_file))
    return None if lines is None else lines + len(options.urls)


async def _show(progress: Progress, run: FetchRun, requests: RequestSource, at_most: int | None) -> None:
    while True:
        total = at_most
        if run.read_to_end:
            total = requests.count
        elif at_most is not None:
            total = at_most - requests.duplicates - requests.done_before
        progress.show(run.summary, total)
        await asyncio.sleep(progress.interval_s)


def _print_summary(run: FetchRun, requests: RequestSource, elapsed_s: float) -> None:
    summary = run.summary
    if summary.done:
        for line in (*summary.lines(), *(f"for example, {example}" for example in summary.examples())):
            print_line(line)
    parts = [f"{summary.done:,} done in {elapsed_s:.1f} s ({summary.done / max(elapsed_s, 1e-3):,.0f}/s)"]
    parts += [f"{summary.failed:,} failed"] if summary.failed else []
    parts += [f"{requests.duplicates:,} listed twice and fetched once"] if requests.duplicates else []
    parts += [f"{requests.done_before:,} done by an earlier run"] if requests.done_before else []
    parts += [f"{requests.failed_before:,} failed in an earlier run"] if requests.failed_before else []
    print_error(", ".join(parts))


def _how_to_continue(options: FetchOptions) -> str:
    if options.out_path is None:
        return "with --out FILE, a stopped run can be continued"
    arguments = _without_secrets(sys.argv[1:])
    if not options.resume:
        arguments.append("--resume")
    return f"to continue: {shlex.join(['fetchq', *arguments])}"


def _without_secrets(arguments: Sequence[str]) -> list[str]:
    """The arguments, with `URL` in place of a Redis address that may contain a password."""
    shown: list[str] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if shown and shown[-1] == "--redis" and _may_hold_a_secret(argument):
            shown.append("URL")
        elif name == "--redis" and equals and _may_hold_a_secret(value):
            shown.append("--redis=URL")
        else:
            shown.append(argument)
    return shown


def _may_hold_a_secret(address: str) -> bool:
    return "@" in address or "password" in address
