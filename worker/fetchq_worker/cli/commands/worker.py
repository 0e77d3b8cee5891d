"""`fetchq worker`: its options. `cli.actions.worker` runs it."""

from __future__ import annotations

import click
from click.core import ParameterSource

from fetchq.command.command_line import CONTEXT
from fetchq.command.option_types import LOG_SHAPE, START_WAIT, Choice, Time, given_settings, option, setting
from fetchq.command.option_types import options as group
from fetchq.command.streams import print_error
from fetchq_worker.health_check import DEFAULT_TIMEOUT_S
from fetchq_worker.health_check import check as check_workers

from . import options
from .start import start

_worker_settings = group(
    setting("allow_unverified_tls", None, "Let a request have verify_tls=False.", default=None),
    setting("cache_max_bytes", "SIZE", "Largest total size of the cache that workers share in Redis.", default="64MiB"),
    setting(
        "limit_by",
        "WHAT",
        "Limits are per host, domain or address; queue: as stored for the queue, else host.",
        default="queue",
        type=Choice(["queue", "host", "domain", "address"]),
    ),
    setting(
        "cooldown_s",
        "TIME",
        "Cooldown of a host after a 429 or 503 without Retry-After; doubles each time.",
        default="1m",
    ),
    setting("max_cooldown_s", "TIME", "Longest cooldown of a host, even if its Retry-After is longer.", default="1d"),
    setting(
        "circuit_breaker",
        None,
        "Whether fetches from a host stop for a while when connections to it fail.",
        default="on",
        declarations=("--circuit-breaker/--no-circuit-breaker",),
    ),
    setting(
        "dead_letters",
        "KIND",
        "Failed jobs that become dead letters: none; retryable, where another try might help; or all, 404s included.",
        default="retryable",
        type=Choice(["none", "retryable", "all"]),
    ),
    setting("dead_letter_ttl_s", "TIME", "How long a dead letter is kept.", default="30d"),
    setting("dead_letter_max", "N", "Dead letters that the queue keeps; the oldest are deleted.", default="1000000"),
    setting(
        "grace_s",
        "TIME",
        "Time that running jobs have to finish after SIGTERM or Ctrl-C; then they are requeued.",
        default="20s",
    ),
    setting(
        "lease_s",
        "TIME",
        "Time without a heartbeat after which other workers run this worker's jobs.",
        default="15s",
    ),
    START_WAIT,
    setting("processes", "N", "Worker processes, each with this concurrency; one that dies is replaced.", default="1"),
)


_log_settings = group(
    LOG_SHAPE,
    setting(
        "log_jobs",
        "WHICH",
        "Jobs that have log lines: none; failed, for good; or all, with their start and end.",
        default="failed",
        type=Choice(["none", "failed", "all"], case_sensitive=False),
    ),
    setting("verbose", None, "The same as --log-jobs all.", default=None, short=("-v",)),
)


@click.command(context_settings=CONTEXT)
@options.concurrency
@option("--burst/--no-burst", default=False, help="Stop when the queue is empty.")
@options.fetch_settings
@_worker_settings
@option(
    "--settings",
    "settings_class",
    metavar="MODULE.CLASS",
    show_default="the fetch alone",
    help="Your own functions: settings as the arq command takes them, or by fetchq_worker.worker_settings().",
)
@_log_settings
@setting(
    "http", "ADDRESS", "HOST:PORT or the path of a unix socket that answers /livez, /readyz and /metrics.", default=None
)
@option(
    "--check",
    is_flag=True,
    help="Run no worker: exit with 0 if those on this machine, or the one at --http, are alive, else with 1.",
)
@option(
    "--timeout",
    "check_timeout",
    type=Time(),
    metavar="TIME",
    default=DEFAULT_TIMEOUT_S,
    show_default=f"{DEFAULT_TIMEOUT_S:g}s",
    help="How long --check waits for the answers.",
)
@setting(
    "metrics",
    None,
    "Whether durations, waits and how jobs end are added to the queue's figures.",
    default="on",
    declarations=("--metrics/--no-metrics",),
)
@setting(
    "traces",
    "HOW",
    "With OpenTelemetry: the span of an attempt links to its sender's span or is its child; or there is none.",
    default="link",
    type=Choice(["link", "child", "off"]),
)
@options.queue_options
def worker(burst: bool, settings_class: str | None, check: bool, check_timeout: float) -> None:
    """Run a worker until SIGTERM or Ctrl-C; the second one returns its jobs to the queue at once. SIGTSTP makes it
    quiet: it claims no more jobs until SIGCONT."""
    context = click.get_current_context()
    on_command_line = {name: value for name, (value, _) in given_settings(context).items()}
    if check:
        try:
            context.exit(check_workers(on_command_line, check_timeout))
        except ValueError as problem:
            print_error(f"{'--http' if 'http' in on_command_line else 'FETCHQ_HTTP'}: {problem}")
            context.exit(2)
    if context.get_parameter_source("check_timeout") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--timeout needs --check")
    if on_command_line.get("verbose") and on_command_line.get("log_jobs", "all") != "all":
        raise click.UsageError("--verbose (-v) is --log-jobs all: give one of them")
    from fetchq_worker.cli.actions.worker import work as command

    if context.get_parameter_source("burst") is ParameterSource.COMMANDLINE:
        on_command_line["burst"] = burst
    start(command, settings_class, burst, on_command_line, fast_loop=True)
