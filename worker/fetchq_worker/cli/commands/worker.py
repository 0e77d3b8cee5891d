"""`fetchq worker`: its options. `cli.actions.worker` runs it."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from fetchq_worker.health_address import HealthAddress, parse_address
from fetchq_worker.health_check import DEFAULT_TIMEOUT_S
from fetchq_worker.health_check import check as check_workers

from .options import (
    AllowNet,
    AllowPort,
    Concurrency,
    CredentialsFile,
    DeadLetterMax,
    DeadLetters,
    DeadLetterTTL,
    TLSCAFile,
    UserAgent,
    Where,
    queue_options,
)
from .start import start

app = typer.Typer(rich_markup_mode=None)


@app.command()
@queue_options
def worker(
    context: typer.Context,
    concurrency: Concurrency = 100,
    burst: Annotated[bool, typer.Option("--burst/--no-burst", help="Stop when the queue is empty.")] = False,
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
            help="Largest total size of the cache that workers share in Redis, in bytes.",
        ),
    ] = 67_108_864,
    limit_by: Annotated[
        str,
        typer.Option(
            "--limit-by",
            envvar="FETCHQ_LIMIT_BY",
            metavar="WHAT",
            help="Limits are per host, domain or address; queue: as stored for the queue, else host.",
        ),
    ] = "queue",
    cooldown_s: Annotated[
        float,
        typer.Option(
            "--cooldown-s",
            envvar="FETCHQ_COOLDOWN_S",
            metavar="S",
            help="Cooldown of a host after a 429 or 503 without Retry-After; doubles each time.",
        ),
    ] = 60.0,
    max_cooldown_s: Annotated[
        float,
        typer.Option(
            "--max-cooldown-s",
            envvar="FETCHQ_MAX_COOLDOWN_S",
            metavar="S",
            help="Longest cooldown of a host, even if its Retry-After is longer.",
        ),
    ] = 86_400.0,
    circuit_breaker: Annotated[
        bool,
        typer.Option(
            "--circuit-breaker/--no-circuit-breaker",
            envvar="FETCHQ_CIRCUIT_BREAKER",
            help="Stop fetching from a host for a while when connections to it fail.",
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
            help="Seconds that running jobs have to finish after SIGTERM or Ctrl-C; then they are requeued.",
        ),
    ] = 20.0,
    lease_s: Annotated[
        float,
        typer.Option(
            "--lease-s",
            envvar="FETCHQ_LEASE_S",
            metavar="S",
            help="Seconds without a heartbeat after which other workers run this worker's jobs.",
        ),
    ] = 15.0,
    start_wait_s: Annotated[
        float,
        typer.Option(
            "--start-wait-s",
            envvar="FETCHQ_START_WAIT_S",
            metavar="S",
            help="Seconds to wait at start for a Redis that cannot be reached or is not ready.",
        ),
    ] = 20.0,
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
            metavar="MODULE.CLASS",
            help="Your own functions: settings as the arq command takes them, or by fetchq_worker.worker_settings().",
            show_default="the fetch alone",
        ),
    ] = None,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", envvar="FETCHQ_VERBOSE", help="Log the start, the outcome and the end of each job."
        ),
    ] = False,
    http: Annotated[
        str,
        typer.Option(
            "--http",
            envvar="FETCHQ_HTTP",
            metavar="ADDRESS",
            help="HOST:PORT or the path of a unix socket to answer /livez and /readyz at.",
            show_default="none",
        ),
    ] = "",
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Run no worker: exit with 0 if those on this machine, or the one at --http, are alive, else with 1.",
        ),
    ] = False,
    check_timeout: Annotated[
        float, typer.Option("--timeout", metavar="S", help="Seconds that --check waits for the answers.")
    ] = DEFAULT_TIMEOUT_S,
    *,
    where: Where,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C."""
    if check:
        queue = where["queue"] if "queue" in _on_command_line(context) or os.environ.get("FETCHQ_QUEUE") else ""
        raise typer.Exit(check_workers(queue, where["namespace"], _address(http), check_timeout))
    from fetchq_worker.cli.actions.worker import work as command

    start(
        command,
        settings_class,
        burst,
        _on_command_line(context),
        fast_loop=True,
        **where,
        concurrency=concurrency,
        allow_net=allow_net,
        allow_port=allow_port,
        user_agent=user_agent,
        credentials_file=credentials_file,
        tls_ca_file=tls_ca_file,
        allow_unverified_tls=allow_unverified_tls,
        cache_max_bytes=cache_max_bytes,
        limit_by=limit_by,
        cooldown_s=cooldown_s,
        max_cooldown_s=max_cooldown_s,
        circuit_breaker=circuit_breaker,
        dead_letters=dead_letters,
        dead_letter_ttl_s=dead_letter_ttl_s,
        dead_letter_max=dead_letter_max,
        grace_s=grace_s,
        lease_s=lease_s,
        start_wait_s=start_wait_s,
        processes=processes,
        http=http,
        verbose=verbose,
    )


def _address(http: str) -> HealthAddress | None:
    try:
        return parse_address(http) if http else None
    except ValueError as problem:
        raise typer.BadParameter(str(problem), param_hint="--http") from None


def _on_command_line(context: typer.Context) -> dict[str, Any]:
    """The parameters given on the command line; not those of the environment, and no defaults."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name: context.params[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}
