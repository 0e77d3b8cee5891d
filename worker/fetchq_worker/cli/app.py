"""The command line: every command, option, default and variable. What they do stands in the modules beside.

Nothing heavy is imported before a command runs, so that `--help` is there at once.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from .dead_app import app as dead_app
from .limits_app import app as limits_app
from .options import (
    AllowNet,
    AllowPort,
    Bodies,
    Concurrency,
    Cookies,
    Credential,
    CredentialsFile,
    DeadLetterMax,
    DeadLetters,
    DeadLetterTTL,
    FromFile,
    LimitKey,
    MaxBytes,
    MaxTries,
    OwnRedis,
    PerHost,
    PriorityOption,
    Proxy,
    Queue,
    Redis,
    Timeout,
    TLSCAFile,
    Urls,
    UserAgent,
)
from .queue_app import app as queue_app

app = typer.Typer(
    name="fetchq",
    help="An async fetch task queue: put URL fetches on Redis, run the workers, get the results.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
app.add_typer(dead_app, name="dead")

app.add_typer(queue_app)
app.add_typer(limits_app, name="limits")


def main() -> None:
    """The entry point: runs the command line and ends the process with its exit status."""
    try:
        status = app(prog_name="fetchq", standalone_mode=False)
    except TyperException as problem:
        context = getattr(problem, "ctx", None)
        path = context.command_path if context is not None else "fetchq"
        sentence = problem.format_message().rstrip(".")
        sys.stderr.write(f"{path}: {sentence}; see {path} --help\n")
        status = problem.exit_code
    sys.exit(status)


@app.callback(invoke_without_command=True)
def _fetchq(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from fetchq import __version__

        typer.echo(f"fetchq {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


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

    Results are written as they come, in the order in which they come. Exit status: 0 all well; 1 some fetch failed, in
    the run that --resume goes on with too; 2 wrong usage; 3 there is no Redis, or it cannot serve: it refuses, is full,
    or would drop jobs.
    """
    from .fetch import FetchOptions
    from .fetch import fetch as command
    from .intake import FetchLimits, FetchManner

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
    _run(
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
        from .queue_state import check_worker

        _run(check_worker, redis_url=redis_url, queue=queue)
    from .work import work as command

    _run(
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
    repeat_unsafe: Annotated[
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
    from .jobs import EnqueueOptions
    from .jobs import enqueue as command

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
        repeat_unsafe=repeat_unsafe,
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
    _run(command, urls or (), from_file, options, writing, redis_url=redis_url, queue=queue)


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
    from .jobs import show_result as command

    _run(command, job_id, timeout, bodies, body, redis_url=redis_url, queue=queue)


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
    from .jobs import cancel as command

    _run(command, job_ids or (), tag, host, everything, redis_url=redis_url, queue=queue)


@app.command()
def acl(
    roles: Annotated[list[str] | None, typer.Argument(metavar="[producer] [worker] [operator]", hidden=True)] = None,
    user: Annotated[
        str | None,
        typer.Option(
            "--user",
            metavar="NAME",
            help="One Redis user with all of these rights.",
            show_default="one a role: fetchq-producer, ...",
        ),
    ] = None,
    namespace: Annotated[
        str, typer.Option("--namespace", metavar="TEXT", help="What stands in front of every key name.")
    ] = "",
    durability: Annotated[
        str,
        typer.Option("--durability", metavar="LEVEL", help="What producers ask of their writes: fsync, replicated."),
    ] = "memory",
    queue: Queue = "arq:queue",
) -> None:
    """Print the least rights that Redis users need as producer, worker or operator, as ACL commands for redis-cli."""
    from .acl import show_acl as command

    _run(command, roles or (), user, namespace, durability, queue=queue)


def _on_command_line(context: typer.Context) -> dict[str, Any]:
    """The parameters that were typed, not those from the environment or by default."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name: context.params[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def _run(command: Any, *arguments: Any, **flags: Any) -> None:
    """Runs `command(*arguments, settings)` with the settings that the environment and `flags` make."""
    from .run import run_with_settings

    raise typer.Exit(run_with_settings(command, *arguments, **flags))
