"""`fetchq fetch`: its options. `cli.bulk.fetch` runs it."""

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
    PerHost,
    PriorityOption,
    Proxy,
    Timeout,
    TLSCAFile,
    Urls,
    UserAgent,
    Where,
    queue_options_or_private_server,
)
from .start import start

app = typer.Typer(rich_markup_mode=None)


@app.command()
@queue_options_or_private_server
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
        bool, typer.Option("--resume", help="Continue the --out of an earlier run: fetch what it lacks.")
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
    no_robots: Annotated[
        bool, typer.Option("--no-robots", help="Fetch URLs that a robots.txt disallows, too.")
    ] = False,
    *,
    where: Where,
) -> None:
    """Fetch each URL, and those of a file; no Redis and no worker are needed.

    Results are written as they arrive. Exit status: 0 all fetches succeeded; 1 some failed, in this run or in the one
    that --resume continues; 2 wrong usage; 3 Redis is missing, refuses commands, is full, or is set up to evict keys.
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
        embedded=where["redis_url"] is None,
        per_host=per_host,
        limits=FetchLimits(timeout_s=timeout, max_bytes=max_bytes, max_tries=max_tries),
        manner=FetchManner(
            robots=not no_robots, credential=credential, proxy=proxy, cookies=cookies, priority=priority
        ),
    )
    start(
        command,
        options,
        fast_loop=True,
        **where,
        concurrency=concurrency,
        allow_net=allow_net,
        allow_port=allow_port,
        user_agent=user_agent,
        credentials_file=credentials_file,
        tls_ca_file=tls_ca_file,
    )
