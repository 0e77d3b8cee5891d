"""`fetchq fetch`: a list of URLs in, a line of JSON for each out, all in one process."""

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
from rich.console import Console

from fetchq import RedisUnavailable
from fetchq.client.limits import EVERY_HOST
from fetchq.store.errors import translated
from fetchq_worker.cli.terminal.exit_status import CommandFailed, ExitStatus
from fetchq_worker.cli.terminal.logs import configure_logs
from fetchq_worker.cli.terminal.progress import Progress, make_progress
from fetchq_worker.cli.terminal.run import on_stop_signal, print_error
from fetchq_worker.settings import Settings

from .fetch_run import FetchRun
from .in_process import InProcess, in_process
from .requests import MAX_RETRY_AFTER_S, FetchLimits, FetchManner, RequestSource
from .result_file import LineSink, ResultFile, StdoutLines
from .result_line import BodyFolder
from .url_lines import count_lines, read_lines

FIRST_COOLDOWN_S: Final = 1.0
"""As the first wait before a retry."""


class FetchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    urls: Sequence[str] = ()
    from_file: str | None = None
    out: str | None = None
    """A path; None or `-`: stdout."""
    resume: bool = False
    bodies: str | None = None
    embedded: bool = True
    """Whether Redis is inside the process."""
    per_host: int | None = None
    """Fetches of one host at a time; only where Redis is inside the process, as others would have to obey it too."""
    limits: FetchLimits = FetchLimits()
    manner: FetchManner = FetchManner()

    @property
    def out_path(self) -> Path | None:
        return None if self.out in (None, "-") else Path(self.out or "")


async def fetch(options: FetchOptions, settings: Settings) -> ExitStatus:
    """Runs the command; raises `FetchqError`."""
    configure_logs("ERROR")
    logging.getLogger("fetchq.engine").setLevel("CRITICAL")  # what Redis's absence means is said once, at the end
    if not options.urls and options.from_file is None:
        raise CommandFailed("name some URLs, or a file of them with --from (- is stdin)", ExitStatus.USAGE)
    if options.resume and options.out_path is None:
        raise CommandFailed("--resume needs --out FILE, the file to go on with", ExitStatus.USAGE)
    if options.per_host is not None and not options.embedded:
        sentence = "--per-host would bind all who use that Redis; say so with fetchq limits set '*' --concurrency N"
        raise CommandFailed(sentence, ExitStatus.USAGE)
    requests = RequestSource(options.limits, options.manner)
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
    """A host that is busy is left alone for moments only, one that is gone not at all: somebody waits for the end."""
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

    progress = make_progress(stdout_is_results=options.out_path is None)
    showing = asyncio.create_task(_show(progress, run, requests, _at_most(options)), name="fetchq-progress")
    running = asyncio.create_task(run.run(_lines(options)), name="fetchq-run")
    try:
        with on_stop_signal(stop):
            await _wait_for_end(run, running, here)
            ended_s = time.monotonic()
            showing.cancel()
            progress.close()
            if not options.embedded:
                await here.stop_worker()
                await run.cancel_rest()
            running.result()
    except CommandFailed as problem:
        unbegun = problem.status is ExitStatus.USAGE and not run.summary.done
        quiet = unbegun or problem.status is ExitStatus.PIPE_CLOSED
        raise
    except RedisUnavailable as problem:
        raise CommandFailed(f"{problem}; {_how_to_go_on(options)}", ExitStatus.NO_REDIS) from problem
    finally:
        showing.cancel()
        progress.close()
        if not quiet:
            _sum_up(run, requests, ended_s - started_s)
    if stopped_by is not None:
        print_error(f"stopped; {_how_to_go_on(options)}")
        return ExitStatus.INTERRUPTED if stopped_by is signal.SIGINT else ExitStatus.TERMINATED
    return ExitStatus.FAILED if run.summary.failed else ExitStatus.OK


async def _wait_for_end(run: FetchRun, running: asyncio.Task[None], here: InProcess) -> None:
    """Returns when `running` has ended, well or not; raises if the worker ended first."""
    await asyncio.wait([running, here.working], return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        run.stop()
        await running
        with translated(here.redis):
            here.working.result()  # says why
        raise CommandFailed("the worker has stopped before its work was done", ExitStatus.FAILED)


async def _lines(options: FetchOptions) -> AsyncIterator[list[str]]:
    if options.urls:
        # Bytes of the command line that are not UTF-8 come as surrogates (PEP 383), which JSON cannot hold.
        yield [url.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for url in options.urls]
    if options.from_file is not None:
        async with contextlib.aclosing(read_lines(options.from_file)) as batches:
            async for batch in batches:
                yield batch


def _at_most(options: FetchOptions) -> int | None:
    """How many URLs there are, those that will be left out included; None: that cannot be told beforehand."""
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


def _sum_up(run: FetchRun, requests: RequestSource, elapsed_s: float) -> None:
    summary = run.summary
    if summary.done:
        Console(stderr=True).print(summary.table())
        for example in summary.examples():
            sys.stderr.write(f"for example, {example}\n")
    parts = [f"{summary.done:,} done in {elapsed_s:.1f} s ({summary.done / max(elapsed_s, 1e-3):,.0f}/s)"]
    parts += [f"{summary.failed:,} failed"] if summary.failed else []
    parts += [f"{requests.duplicates:,} listed twice and fetched once"] if requests.duplicates else []
    parts += [f"{requests.done_before:,} done by an earlier run"] if requests.done_before else []
    parts += [f"{requests.failed_before:,} failed in an earlier run"] if requests.failed_before else []
    print_error(", ".join(parts))


def _how_to_go_on(options: FetchOptions) -> str:
    if options.out_path is None:
        return "with --out FILE, a run that was stopped can go on where it was"
    arguments = _without_secrets(sys.argv[1:])
    if not options.resume:
        arguments.append("--resume")
    return f"to go on: {shlex.join(['fetchq', *arguments])}"


def _without_secrets(arguments: Sequence[str]) -> list[str]:
    """The arguments with `URL` for an address of Redis that may hold a password: what is shown ends up in logs."""
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
