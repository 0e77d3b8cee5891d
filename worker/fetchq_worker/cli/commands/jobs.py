"""`fetchq enqueue`, `result` and `cancel`: their options. `cli.actions.jobs` runs them."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import (
    Bodies,
    Cookies,
    Credential,
    FromFile,
    LimitKey,
    MaxBytes,
    MaxTries,
    PriorityOption,
    Proxy,
    Timeout,
    Urls,
    Where,
    queue_options,
)
from .start import start

app = typer.Typer(rich_markup_mode=None)


@app.command()
@queue_options
def enqueue(
    urls: Urls = None,
    from_file: FromFile = None,
    method: Annotated[
        str | None,
        typer.Option("--method", "-X", metavar="NAME", help="HTTP method.", show_default="GET; POST with a body"),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="'N: V'", help="A header; can be repeated."),
    ] = None,
    body: Annotated[str | None, typer.Option("--body", metavar="TEXT", help="Request body, as UTF-8.")] = None,
    body_file: Annotated[
        str | None,
        typer.Option("--body-file", metavar="FILE", help="Request body, from a file; - is stdin."),
    ] = None,
    json: Annotated[str | None, typer.Option("--json", metavar="JSON", help="Request body, as JSON.")] = None,
    form: Annotated[
        list[str] | None,
        typer.Option("--form", metavar="N=V", help="A field of a form to send; can be repeated."),
    ] = None,
    credential: Credential = None,
    proxy: Proxy = None,
    cookies: Cookies = False,
    cache: Annotated[bool, typer.Option("--cache", help="Use the HTTP cache that the workers share.")] = False,
    no_verify_tls: Annotated[
        bool, typer.Option("--no-verify-tls", help="Accept any certificate, if the worker allows it.")
    ] = False,
    priority: PriorityOption = "default",
    limit_key: LimitKey = None,
    robots: Annotated[bool, typer.Option("--robots", help="Obey each origin's robots.txt.")] = False,
    etag: Annotated[
        str | None,
        typer.Option("--etag", metavar="TEXT", help="ETag of the copy you have."),
    ] = None,
    last_modified: Annotated[
        str | None,
        typer.Option("--last-modified", metavar="DATE", help="Last-Modified of the copy you have."),
    ] = None,
    timeout: Timeout = 30.0,
    max_bytes: MaxBytes = 4_194_304,
    max_redirects: Annotated[int, typer.Option("--max-redirects", metavar="N", help="Redirects to follow.")] = 10,
    max_tries: MaxTries = 3,
    retry_non_idempotent: Annotated[
        bool,
        typer.Option(
            "--retry-non-idempotent", help="Retry a POST or PATCH that may have arrived, with an Idempotency-Key."
        ),
    ] = False,
    delay_s: Annotated[float, typer.Option("--delay-s", metavar="S", help="Start it after this time.")] = 0.0,
    deadline_s: Annotated[
        float | None,
        typer.Option("--deadline-s", metavar="S", help="Do not start it after this time."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="TEXT", help="Idempotency key: the same key, the same job."),
    ] = None,
    result_ttl_s: Annotated[
        float,
        typer.Option("--result-ttl-s", metavar="S", help="How long the result is kept."),
    ] = 3600.0,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", help="A tag by which jobs can be found and cancelled; can be repeated."),
    ] = None,
    durability: Annotated[
        str,
        typer.Option(
            "--durability",
            metavar="memory|fsync|replicated",
            help="Where the jobs must be stored before their ids are printed.",
        ),
    ] = "memory",
    replicas: Annotated[
        int | None,
        typer.Option(
            "--replicas", metavar="N", help="How many, with --durability replicated.", show_default="1", min=1
        ),
    ] = None,
    durable_timeout_s: Annotated[
        float,
        typer.Option("--durable-timeout-s", metavar="S", help="Longest wait for the disk or the replicas."),
    ] = 5.0,
    max_queued: Annotated[
        int | None,
        typer.Option("--max-queued", metavar="N", help="Add no job to a queue that holds this many.", min=1),
    ] = None,
    when_full: Annotated[
        str,
        typer.Option("--when-full", metavar="refuse|wait", help="What to do when the queue is full."),
    ] = "refuse",
    full_timeout_s: Annotated[
        float,
        typer.Option("--full-timeout-s", metavar="S", help="Longest wait for space in a full queue, for each batch."),
    ] = 60.0,
    max_memory: Annotated[
        float,
        typer.Option(
            "--max-memory", metavar="SHARE", help="Share of Redis's maxmemory at which the queue counts as full."
        ),
    ] = 0.95,
    *,
    where: Where,
) -> None:
    """Enqueue a fetch of each URL, and of those of a file, and print the job ids, one a line."""
    from fetchq_worker.cli.actions.jobs import EnqueueOptions
    from fetchq_worker.cli.actions.jobs import enqueue as command

    options = EnqueueOptions(
        method=method,
        headers=header or (),
        body=body,
        body_file=body_file,
        json=json,
        form=form or (),
        credential=credential,
        proxy=proxy,
        cookies=cookies,
        cache=cache,
        verify_tls=not no_verify_tls,
        priority=priority,
        limit_key=limit_key,
        robots=robots,
        etag=etag,
        last_modified=last_modified,
        timeout_s=timeout,
        max_bytes=max_bytes,
        max_redirects=max_redirects,
        max_tries=max_tries,
        retry_non_idempotent=retry_non_idempotent,
        delay_s=delay_s,
        deadline_s=deadline_s,
        key=key,
        result_ttl_s=result_ttl_s,
        tags=tag or (),
    )
    writing = {
        "durability": durability,
        "replicas": replicas,
        "durable_timeout_s": durable_timeout_s,
        "max_queued": max_queued,
        "when_full": when_full,
        "full_timeout_s": full_timeout_s,
        "max_memory": max_memory,
    }
    start(command, urls or (), from_file, options, writing, **where)


@app.command()
@queue_options
def result(
    job_id: Annotated[str, typer.Argument(metavar="ID", hidden=True)],
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="S",
            help="Seconds to wait for the result, and for Redis to answer.",
            show_default="as long as the job exists",
            min=0,
        ),
    ] = None,
    body: Annotated[bool, typer.Option("--body", help="Print the body alone, unchanged.")] = False,
    bodies: Bodies = None,
    *,
    where: Where,
) -> None:
    """Wait for the result of job ID, as printed by enqueue, and print it as JSON."""
    from fetchq_worker.cli.actions.jobs import show_result as command

    start(command, job_id, timeout, bodies, body, **where)


@app.command()
@queue_options
def cancel(
    job_ids: Annotated[list[str] | None, typer.Argument(metavar="ID", hidden=True)] = None,
    tag: Annotated[str | None, typer.Option("--tag", metavar="TAG", help="All fetches with this tag.")] = None,
    host: Annotated[str | None, typer.Option("--host", metavar="HOST", help="All fetches from this host.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All jobs of the queue.")] = False,
    *,
    where: Where,
) -> None:
    """Cancel jobs by ID, as printed by enqueue, or by filter; print the outcome of each, or the counts."""
    from fetchq_worker.cli.actions.jobs import cancel as command

    start(command, job_ids or (), tag, host, everything, **where)
