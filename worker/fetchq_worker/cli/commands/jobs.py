"""`fetchq enqueue`, `result` and `cancel`: their options. `cli.actions` runs them."""

from __future__ import annotations

from typing import Any

import click

from fetchq.command.command_line import CONTEXT
from fetchq.command.option_types import Choice, File, Number, Time, Whole, option
from fetchq.command.option_types import options as group

from . import options
from .start import start

_request_options = group(
    option("--method", "-X", metavar="NAME", show_default="GET; POST with a body", help="HTTP method."),
    option("--header", "-H", "headers", metavar="'N: V'", multiple=True, help="A header; can be repeated."),
    option("--body", metavar="TEXT", help="Request body, as UTF-8."),
    option("--body-file", metavar="FILE", type=File(), help="Request body, from a file; - is stdin."),
    option("--json", metavar="JSON", help="Request body, as JSON."),
    option("--form", metavar="N=V", multiple=True, help="A field of a form to send; can be repeated."),
    options.credential,
    options.proxy,
    options.cookies,
    option("--cache", is_flag=True, help="Use the HTTP cache that the workers share."),
    option("--no-verify-tls", is_flag=True, help="Accept any certificate, if the worker allows it."),
    options.priority,
    option(
        "--limit-key",
        metavar="TEXT",
        show_default="the host of each URL",
        help="Key that limits are counted under, such as a tenant.",
    ),
    option(
        "--robots/--no-robots",
        default=False,
        show_default="--no-robots",
        help="Whether each origin's robots.txt is obeyed.",
    ),
    option("--etag", metavar="TEXT", help="ETag of the copy you have."),
    option("--last-modified", metavar="DATE", help="Last-Modified of the copy you have."),
    options.timeout,
    options.max_bytes,
    option("--max-redirects", metavar="N", type=Whole(), default=10, show_default=True, help="Redirects to follow."),
    options.max_tries,
    option(
        "--retry-non-idempotent",
        is_flag=True,
        help="Retry a POST or PATCH that may have arrived, with an Idempotency-Key.",
    ),
    option("--delay", "delay_s", metavar="TIME", type=Time(), default=0.0, help="Start it after this time."),
    option("--deadline", "deadline_s", metavar="TIME", type=Time(), help="Do not start it after this time from now."),
    option("--key", metavar="TEXT", help="Idempotency key: the same key, the same job."),
    option(
        "--result-ttl",
        "result_ttl_s",
        metavar="TIME",
        type=Time(),
        default=3600.0,
        show_default="1h",
        help="How long the result is kept.",
    ),
    option(
        "--tag",
        "tags",
        metavar="TAG",
        multiple=True,
        help="A tag by which jobs can be found and cancelled; can be repeated.",
    ),
)
"""The fields of `EnqueueOptions`."""

_write_options = group(
    option(
        "--durability",
        metavar="LEVEL",
        type=Choice(["memory", "fsync", "replicated"]),
        default="memory",
        show_default=True,
        help="Where the jobs must be before their ids are printed: memory, fsync or replicated.",
    ),
    option("--replicas", metavar="N", type=Whole(1), show_default="1", help="How many, with --durability replicated."),
    option(
        "--durable-timeout",
        "durable_timeout_s",
        metavar="TIME",
        type=Time(),
        show_default="5s",
        help="Longest wait for the disk or the replicas.",
    ),
    option("--max-queued", metavar="N", type=Whole(1), help="Add no job to a queue that holds this many."),
    option(
        "--when-full",
        metavar="WHAT",
        type=Choice(["refuse", "wait"]),
        default="refuse",
        show_default=True,
        help="What to do when the queue is full: refuse or wait.",
    ),
    option(
        "--full-timeout",
        "full_timeout_s",
        metavar="TIME",
        type=Time(),
        show_default="60s",
        help="Longest wait for space in a full queue, for each batch.",
    ),
    option(
        "--max-memory",
        metavar="SHARE",
        type=Number(),
        show_default="0.95",
        help="Share of Redis's maxmemory at which the queue counts as full.",
    ),
)
_WRITE_OPTIONS = (
    "durability",
    "replicas",
    "durable_timeout_s",
    "max_queued",
    "when_full",
    "full_timeout_s",
    "max_memory",
)


@click.command(context_settings=CONTEXT, short_help="Enqueue fetches, and print the job ids.")
@options.urls
@options.from_file
@_request_options
@_write_options
@options.queue_options
def enqueue(urls: tuple[str, ...], from_file: str | None, no_verify_tls: bool, **given: Any) -> None:
    """Enqueue a fetch of each URL, and of those of a file, and print the job ids, one a line.

    Exit status: 0 all jobs are enqueued; 1 some are not, or their ids cannot be written; 2 wrong usage; 3 Redis is
    missing, refuses commands or is full.
    """
    from fetchq_worker.cli.actions.enqueue import EnqueueOptions
    from fetchq_worker.cli.actions.enqueue import enqueue as command

    asked = {name: given.pop(name) for name in _WRITE_OPTIONS}
    writing = {name: value for name, value in asked.items() if value is not None}
    start(command, urls, from_file, EnqueueOptions(**given, verify_tls=not no_verify_tls), writing)


@click.command(context_settings=CONTEXT, short_help="Wait for the results of jobs, and print them as JSON.")
@click.argument("job_ids", nargs=-1, metavar="[ID]...")
@option("--from", "from_file", metavar="FILE", type=File(), help="A file of ids, one a line; - is stdin.")
@option("--out", metavar="FILE.jsonl", type=File(), show_default="stdout", help="Where the results go.")
@option(
    "--timeout",
    "timeout_s",
    metavar="TIME",
    type=Time(),
    show_default="as long as the jobs exist",
    help="Longest wait for all of the results, and for Redis to answer; 0: take what is there.",
)
@option("--body", "raw", is_flag=True, help="Print the body of one job alone, unchanged.")
@options.bodies
@options.queue_options
def result(job_ids: tuple[str, ...], **given: Any) -> None:
    """Wait for the results of jobs, by ID as printed by enqueue; print a line of JSON each, as they arrive.

    Exit status: 0 all fetches succeeded; 1 some failed or have no result; 2 wrong usage; 3 Redis is missing.
    """
    from fetchq_worker.cli.actions.results import ResultOptions
    from fetchq_worker.cli.actions.results import show_results as command

    start(command, job_ids, ResultOptions(**given))


@click.command(context_settings=CONTEXT, short_help="Cancel jobs by id, tag or host.")
@click.argument("job_ids", nargs=-1, metavar="[ID]...")
@option("--tag", metavar="TAG", help="All fetches with this tag.")
@option("--host", metavar="HOST", help="All fetches from this host.")
@option("--all", "everything", is_flag=True, help="All jobs of the queue.")
@option("--json", "as_json", is_flag=True, help="As JSON, a line each.")
@options.queue_options
def cancel(job_ids: tuple[str, ...], everything: bool, as_json: bool, **filters: str | None) -> None:
    """Cancel jobs by ID, as printed by enqueue, or by filter; print the outcome of each, or the counts."""
    from fetchq_worker.cli.actions.cancel import cancel as command

    wanted = {name: text for name, text in filters.items() if text is not None}
    start(command, job_ids, wanted, everything, as_json)
