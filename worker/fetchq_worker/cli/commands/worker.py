"""`fetchq worker`: its options. What it does stands in `work`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .options import (
    AllowNet,
    AllowPort,
    Concurrency,
    CredentialsFile,
    DeadLetterMax,
    DeadLetters,
    DeadLetterTTL,
    Queue,
    Redis,
    TLSCAFile,
    UserAgent,
)
from .start import start

app = typer.Typer(rich_markup_mode=None)


@app.command()
def worker(
    context: typer.Context,
    redis_url: Redis = "redis://localhost:6379",
    queue: Queue = "arq:queue",
    concurrency: Concurrency = 100,
    burst: Annotated[bool, typer.Option("--burst", help="Stop when the queue is empty.")] = False,
    allow_net: AllowNet = None,
    allow_port: AllowPort = None,
    user_agent: UserAgent = None,
    credentials_file: CredentialsFile = "",
    tls_ca_file: TLSCAFile = "",
    allow_unverified_tls: Annotated[
        bool,
        typer.Option(
            "--allow-unverified-tls",
            envvar="FETCHQ_ALLOW_UNVERIFIED_TLS",
            help="Let a request have verify_tls=False.",
        ),
    ] = False,
    cache_max_bytes: Annotated[
        int,
        typer.Option(
            "--cache-max-bytes",
            envvar="FETCHQ_CACHE_MAX_BYTES",
            metavar="N",
            help="Bytes of Redis that what workers cache for each other may take.",
        ),
    ] = 67_108_864,
    limit_by: Annotated[
        str,
        typer.Option(
            "--limit-by",
            envvar="FETCHQ_LIMIT_BY",
            metavar="WHAT",
            help="What limits belong to: host, domain or address; queue: as the queue's other workers say.",
        ),
    ] = "queue",
    cooling_s: Annotated[
        float,
        typer.Option(
            "--cooling-s",
            envvar="FETCHQ_COOLING_S",
            metavar="S",
            help="How long a host is left alone after a 429 or 503 that does not say; twice as long each time.",
        ),
    ] = 60.0,
    max_cooling_s: Annotated[
        float,
        typer.Option(
            "--max-cooling-s",
            envvar="FETCHQ_MAX_COOLING_S",
            metavar="S",
            help="How long a host is left alone at most, whatever it asks for.",
        ),
    ] = 86_400.0,
    circuit_breaker: Annotated[
        bool,
        typer.Option(
            "--circuit-breaker/--no-circuit-breaker",
            envvar="FETCHQ_CIRCUIT_BREAKER",
            help="Leave a host alone for a while to which connections fail.",
        ),
    ] = True,
    dead_letters: DeadLetters = "retryable",
    dead_letter_ttl_s: DeadLetterTTL = 2_592_000.0,
    dead_letter_max: DeadLetterMax = 1_000_000,
    grace_s: Annotated[
        float,
        typer.Option(
            "--grace-s",
            envvar="FETCHQ_GRACE_S",
            metavar="S",
            help="Seconds that running jobs have to finish after SIGTERM or Ctrl-C; then they go back to the queue.",
        ),
    ] = 20.0,
    lease_s: Annotated[
        float,
        typer.Option(
            "--lease-s",
            envvar="FETCHQ_LEASE_S",
            metavar="S",
            help="Seconds without a sign of life after which this worker's jobs are run by another.",
        ),
    ] = 15.0,
    processes: Annotated[
        int,
        typer.Option(
            "--processes",
            envvar="FETCHQ_PROCESSES",
            metavar="N",
            help="Worker processes, each with this concurrency; one that dies is replaced.",
        ),
    ] = 1,
    settings_class: Annotated[
        str | None,
        typer.Option(
            "--settings",
            metavar="MODULE:CLASS",
            help="A class made by fetchq_worker.worker_settings(), with functions of your own.",
            show_default="the fetch alone",
        ),
    ] = None,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", envvar="FETCHQ_VERBOSE", help="Log the start, the outcome and the end of each job."
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Run none: say whether one of this host is alive (exit status 0) or not (1)."),
    ] = False,
) -> None:
    """Run a worker until it is told to stop."""
    if check:
        from fetchq_worker.cli.actions.queue import check_worker

        start(check_worker, redis_url=redis_url, queue=queue)
    from fetchq_worker.cli.actions.worker import work as command

    start(
        command,
        settings_class,
        burst,
        _on_command_line(context),
        redis_url=redis_url,
        queue=queue,
        concurrency=concurrency,
        allow_net=allow_net,
        allow_port=allow_port,
        user_agent=user_agent,
        credentials_file=credentials_file,
        tls_ca_file=tls_ca_file,
        allow_unverified_tls=allow_unverified_tls,
        cache_max_bytes=cache_max_bytes,
        limit_by=limit_by,
        cooling_s=cooling_s,
        max_cooling_s=max_cooling_s,
        circuit_breaker=circuit_breaker,
        dead_letters=dead_letters,
        dead_letter_ttl_s=dead_letter_ttl_s,
        dead_letter_max=dead_letter_max,
        grace_s=grace_s,
        lease_s=lease_s,
        processes=processes,
        verbose=verbose,
    )


def _on_command_line(context: typer.Context) -> dict[str, Any]:
    """The parameters that were typed, not those from the environment or by default."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name: context.params[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}
