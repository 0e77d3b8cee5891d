"""`fetchq fetch`: its options. What it does stands in `fetch`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import (
    AllowNet,
    AllowPort,
    Bodies,
    Concurrency,
    Cookies,
    Credential,
    CredentialsFile,
    FromFile,
    MaxBytes,
    MaxTries,
    OwnRedis,
    PerHost,
    PriorityOption,
    Proxy,
    Queue,
    Timeout,
    TLSCAFile,
    Urls,
    UserAgent,
)
from .start import start

app = typer.Typer(rich_markup_mode=None)


@app.command()
def fetch(
    urls: Urls = None,
    from_file: FromFile = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="FILE.jsonl", help="Where the results go, a line of JSON each.", show_default="stdout"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the --out of an earlier run: fetch what it lacks.")
    ] = False,
    bodies: Bodies = None,
    concurrency: Concurrency = 100,
    per_host: PerHost = None,
    timeout: Timeout = 30.0,
    max_bytes: MaxBytes = 4_194_304,
    max_tries: MaxTries = 3,
    allow_net: AllowNet = None,
    allow_port: AllowPort = None,
    user_agent: UserAgent = None,
    credential: Credential = None,
    proxy: Proxy = None,
    cookies: Cookies = False,
    credentials_file: CredentialsFile = "",
    tls_ca_file: TLSCAFile = "",
    priority: PriorityOption = "default",
    no_robots: Annotated[bool, typer.Option("--no-robots", help="Fetch what a robots.txt forbids, too.")] = False,
    redis_url: OwnRedis = None,
    queue: Queue = "arq:queue",
) -> None:
    """Fetch each URL, and those of a file, all in one process.

    Results are written as they come. Exit status: 0 all well; 1 some fetch failed, in
    the run that --resume goes on with too; 2 wrong usage; 3 there is no Redis, or it cannot serve: it refuses, is full,
    or would drop jobs.
    """
    from fetchq_worker.cli.bulk.fetch import FetchOptions
    from fetchq_worker.cli.bulk.fetch import fetch as command
    from fetchq_worker.cli.bulk.requests import FetchLimits, FetchManner

    options = FetchOptions(
        urls=urls or (),
        from_file=from_file,
        out=out,
        resume=resume,
        bodies=bodies,
        embedded=redis_url is None,
        per_host=per_host,
        limits=FetchLimits(timeout_s=timeout, max_bytes=max_bytes, max_tries=max_tries),
        manner=FetchManner(
            robots=not no_robots, credential=credential, proxy=proxy, cookies=cookies, priority=priority
        ),
    )
    start(
        command,
        options,
        redis_url=redis_url,
        queue=queue,
        concurrency=concurrency,
        allow_net=allow_net,
        allow_port=allow_port,
        user_agent=user_agent,
        credentials_file=credentials_file,
        tls_ca_file=tls_ca_file,
    )
