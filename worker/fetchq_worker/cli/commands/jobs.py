"""The commands about single jobs: enqueue, result and cancel. What they do stands in `jobs`."""

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
    Queue,
    Redis,
    Timeout,
    Urls,
)
from .start import start

app = typer.Typer(rich_markup_mode=None)


@app.command()
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
        bool, typer.Option("--no-verify-tls", help="Trust any certificate, where the worker allows that.")
    ] = False,
    priority: PriorityOption = "default",
    limit_key: LimitKey = None,
    robots: Annotated[bool, typer.Option("--robots", help="Ask each origin's robots.txt first.")] = False,
    etag: Annotated[
        str | None,
        typer.Option("--etag", metavar="TEXT", help="The ETag of a copy at hand."),
    ] = None,
    last_modified: Annotated[
        str | None,
        typer.Option("--last-modified", metavar="DATE", help="The Last-Modified of a copy at hand."),
    ] = None,
    timeout: Timeout = 30.0,
    max_bytes: MaxBytes = 4_194_304,
    max_redirects: Annotated[int, typer.Option("--max-redirects", metavar="N", help="Redirects to follow.")] = 10,
    max_tries: MaxTries = 3,
    retry_non_idempotent: Annotated[
        bool,
        typer.Option("--repeat-unsafe", help="Send a POST or PATCH again after it may have arrived, with one key."),
    ] = False,
    delay_s: Annotated[float, typer.Option("--delay-s", metavar="S", help="Run it this much later.")] = 0.0,
    deadline_s: Annotated[
        float | None,
        typer.Option("--deadline-s", metavar="S", help="Do not start it later than this."),
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
        typer.Option("--tag", metavar="TAG", help="A name to cancel it by; can be repeated."),
    ] = None,
    durability: Annotated[
        str,
        typer.Option(
            "--durability",
            metavar="memory|fsync|replicated",
            help="What must hold the jobs before their ids are printed.",
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
        typer.Option("--durable-timeout-s", metavar="S", help="How long the disk or the replicas may take."),
    ] = 5.0,
    max_queued: Annotated[
        int | None,
        typer.Option("--max-queued", metavar="N", help="Add no job to a queue that holds so many.", min=1),
    ] = None,
    when_full: Annotated[
        str,
        typer.Option("--when-full", metavar="refuse|wait", help="What to do where there is no room."),
    ] = "refuse",
    full_timeout_s: Annotated[
        float,
        typer.Option("--full-timeout-s", metavar="S", help="How long to wait for room; again after each that was had."),
    ] = 60.0,
    max_memory: Annotated[
        float,
        typer.Option("--max-memory", metavar="SHARE", help="The share of Redis's maxmemory at which there is no room."),
    ] = 0.95,
    redis_url: Redis = "redis://localhost:6379",
    queue: Queue = "arq:queue",
) -> None:
    """Put a fetch of each URL on the queue, and of those of a file, and print their job ids, one a line."""
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
    start(command, urls or (), from_file, options, writing, redis_url=redis_url, queue=queue)


@app.command()
def result(
    job_id: Annotated[str, typer.Argument(metavar="ID", hidden=True)],
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="S",
            help="Seconds to wait for it, and for Redis to answer.",
            show_default="as long as the job exists",
            min=0,
        ),
    ] = None,
    body: Annotated[bool, typer.Option("--body", help="Print the body alone, as it came.")] = False,
    bodies: Bodies = None,
    redis_url: Redis = "redis://localhost:6379",
    queue: Queue = "arq:queue",
) -> None:
    """Wait for the result of the job ID, as enqueue printed it, and print the result as JSON."""
    from fetchq_worker.cli.actions.jobs import show_result as command

    start(command, job_id, timeout, bodies, body, redis_url=redis_url, queue=queue)


@app.command()
def cancel(
    job_ids: Annotated[list[str] | None, typer.Argument(metavar="ID", hidden=True)] = None,
    tag: Annotated[str | None, typer.Option("--tag", metavar="TAG", help="All fetches with this tag.")] = None,
    host: Annotated[str | None, typer.Option("--host", metavar="HOST", help="All fetches from this host.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All jobs of the queue.")] = False,
    redis_url: Redis = "redis://localhost:6379",
    queue: Queue = "arq:queue",
) -> None:
    """Cancel jobs by ID, as enqueue printed it, or many at once; print what came of each, or how many there were."""
    from fetchq_worker.cli.actions.jobs import cancel as command

    start(command, job_ids or (), tag, host, everything, redis_url=redis_url, queue=queue)
