"""`fetchq fetch`: its options. `cli.bulk.fetch` runs it."""

from __future__ import annotations

from typing import Any

import click

from fetchq.command.command_line import CONTEXT
from fetchq.command.option_types import Choice, File, Whole, option

from . import options
from .start import is_given, start


@click.command(context_settings=CONTEXT, short_help="Fetch URLs here and now, without Redis and workers.")
@options.urls
@options.from_file
@option(
    "--out",
    metavar="FILE.jsonl",
    type=File(),
    show_default="stdout",
    help="Where the results go, a line of JSON each.",
)
@option("--resume", is_flag=True, help="Continue the --out of an earlier run: fetch what it lacks.")
@options.bodies
@options.concurrency
@option(
    "--per-host",
    metavar="N",
    type=Whole(1),
    show_default="8",
    help="Fetches of one host at a time; not with --redis.",
)
@options.timeout
@options.max_bytes
@options.max_tries
@options.fetch_settings
@options.credential
@options.proxy
@options.cookies
@options.priority
@option(
    "--robots/--no-robots",
    default=True,
    show_default="--robots",
    help="Whether each origin's robots.txt is obeyed.",
)
@option(
    "--progress",
    metavar="HOW",
    type=Choice(["auto", "bar", "lines", "none"]),
    default="auto",
    show_default=True,
    help="On stderr: a bar, a line every few seconds, or none; auto is a bar on a terminal, else lines.",
)
@options.queue_options_or_private_server
def fetch(timeout_s: float, max_bytes: int, max_tries: int, **given: Any) -> None:
    """Fetch each URL, and those of a file; no Redis and no worker are needed.

    Results are written as they arrive. Exit status: 0 all fetches succeeded; 1 some failed, in this run or in the one
    that --resume continues; 2 wrong usage; 3 Redis is missing, refuses commands, is full, or is set up to evict keys.
    """
    from fetchq_worker.cli.bulk.fetch import FetchOptions
    from fetchq_worker.cli.bulk.fetch import fetch as command
    from fetchq_worker.cli.bulk.requests import FetchLimits, FetchManner

    manner = FetchManner(**{name: given.pop(name) for name in FetchManner._fields})
    limits = FetchLimits(timeout_s=timeout_s, max_bytes=max_bytes, max_tries=max_tries)
    embedded = not is_given("redis_url")
    start(command, FetchOptions(**given, embedded=embedded, limits=limits, manner=manner), fast_loop=True)
