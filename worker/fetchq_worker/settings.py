"""The worker's settings: one struct, filled from `FETCHQ_*` and then from flags."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta

from fetchq import InvalidRequest, __version__
from fetchq.command.listen_address import parse_address
from fetchq.command.settings import ENV_PREFIX, GATEWAY_VARIABLES, InvalidSetting, ProgramSettings, variable_of
from fetchq.logs.setup import LogFormat, LogLevel
from fetchq.store.address import DEFAULT_URL, VARIABLES
from fetchq.store.keys import DEFAULT_QUEUE, Keys, check_namespace, check_queue

from .health_address import FOLDER_ENV

SUPERVISED_ENV: Final = "FETCHQ_SUPERVISED"
"""Set in the environment of a supervisor's children: their stdin is the supervisor's pipe."""
FIRST_COOLDOWN_S: Final = 60.0
"""Cooldown of a host after a 429 or 503 without a usable Retry-After."""
MAX_COOLDOWN_S: Final = 86_400.0


class LimitBy(StrEnum):
    """Which part of a request its limits belong to."""

    QUEUE = "queue"
    """As stored in Redis by the queue's other workers, else by host."""
    HOST = "host"
    DOMAIN = "domain"
    """The registrable domain, by the public suffix list (publicsuffix.org)."""
    ADDRESS = "address"
    """The lowest of the addresses that the host resolves to."""


class DeadLetterKind(StrEnum):
    """Which failed jobs become dead letters."""

    NONE = "none"
    RETRYABLE = "retryable"
    """Jobs that might succeed another time: those with a retryable outcome and no attempt left, and those that did not
    fail by the remote side (WORKER_LOST, INVALID_JOB, INTERNAL_ERROR)."""
    ALL = "all"
    """Every failed job, 404s included, except cancelled ones."""


class LogJobs(StrEnum):
    """Which jobs have log lines."""

    NONE = "none"
    FAILED = "failed"
    """Each job that failed for good, with its error."""
    ALL = "all"
    """Also the start, the outcome and the end of each job."""


class Traces(StrEnum):
    """How the span of an attempt refers to the span that enqueued its job, where OpenTelemetry is set up."""

    LINK = "link"
    """By a link: an attempt begins a trace of its own."""
    CHILD = "child"
    """It is a child, in the trace of its sender."""
    OFF = "off"
    """The worker makes no spans."""


class Settings(ProgramSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a worker runs. Each field is read from the variable that `variable_of` names; a flag outranks it."""

    redis_url: Annotated[str, Meta(description="Address of Redis.")] = DEFAULT_URL
    queue: Annotated[str, Meta(min_length=1, max_length=200, description="Name of the queue.")] = DEFAULT_QUEUE
    namespace: Annotated[str, Meta(max_length=200, description="Prefix of every key name, such as a hash tag.")] = ""
    concurrency: Annotated[int, Meta(ge=1, le=100_000, description="Fetches that run at a time in one process.")] = 100
    grace_s: Annotated[
        float, Meta(ge=0, le=3600, description="Time that running jobs have to finish when a worker stops.")
    ] = 20.0
    lease_s: Annotated[
        float,
        Meta(ge=0.5, le=3600, description="Time without a heartbeat after which other workers run a worker's jobs."),
    ] = 15.0
    start_wait_s: Annotated[
        float,
        Meta(ge=0, le=86_400, description="Time that a starting worker waits for a Redis that is not available."),
    ] = 20.0
    http: Annotated[
        str, Meta(description="HOST:PORT or the path of a unix socket that answers /livez, /readyz and /metrics.")
    ] = ""
    log_level: Annotated[LogLevel, Meta(description="The least severe log lines: debug, info, warning or error.")] = (
        LogLevel.INFO
    )
    log_format: Annotated[LogFormat, Meta(description="The shape of log lines: text or json.")] = LogFormat.TEXT
    log_jobs: Annotated[LogJobs, Meta(description="Jobs that have log lines: none; failed, for good; or all.")] = (
        LogJobs.FAILED
    )
    verbose: Annotated[bool, Meta(description="The same as log_jobs=all.")] = False
    metrics: Annotated[
        bool, Meta(description="Whether workers add durations, waits and how jobs end to the queue's figures.")
    ] = True
    processes: Annotated[int, Meta(ge=1, le=256, description="Worker processes under one supervisor.")] = 1
    traces: Annotated[
        Traces,
        Meta(
            description="An attempt's span links to its sender's, or is its child (OpenTelemetry): link, child or off."
        ),
    ] = Traces.LINK
    user_agent: Annotated[
        str,
        Meta(min_length=1, max_length=500, description="The User-Agent: a product token and, better, a contact."),
    ] = f"fetchq/{__version__}"
    allow_net: Annotated[
        tuple[str, ...],
        Meta(description="Non-public networks (CIDR) that may be fetched from."),
    ] = ()
    allow_port: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=65_535)], ...],
        Meta(description="Additional ports; 80, 443 and ports above 1023 of no other protocol are always allowed."),
    ] = ()
    credentials_file: Annotated[
        str, Meta(description="A TOML file of the credentials and proxies that requests can name.")
    ] = ""
    tls_ca_file: Annotated[
        str, Meta(description="A PEM file of certificate authorities to trust beside the system's.")
    ] = ""
    allow_unverified_tls: Annotated[bool, Meta(description="Whether a request may have verify_tls=False.")] = False
    cache_max_bytes: Annotated[
        int,
        Meta(ge=0, le=1 << 40, description="Largest total size of the cache that workers share in Redis."),
    ] = 64 << 20
    dead_letters: Annotated[
        DeadLetterKind, Meta(description="Failed jobs that become dead letters: none, retryable or all.")
    ] = DeadLetterKind.RETRYABLE
    dead_letter_ttl_s: Annotated[
        float, Meta(ge=1, le=10 * 366 * 86_400, description="Time that a dead letter is kept.")
    ] = 30 * 86_400.0
    dead_letter_max: Annotated[
        int, Meta(ge=0, le=100_000_000, description="Dead letters that a queue keeps; the oldest are deleted.")
    ] = 1_000_000

    limit_by: Annotated[
        LimitBy,
        Meta(description="Limits are per host, domain or address; queue: as stored for the queue, else host."),
    ] = LimitBy.QUEUE
    cooldown_s: Annotated[
        float,
        Meta(ge=0, le=86_400, description="First cooldown of a host, after a 429 or 503 without Retry-After."),
    ] = FIRST_COOLDOWN_S
    max_cooldown_s: Annotated[
        float,
        Meta(ge=0, le=7 * 86_400, description="Longest cooldown of a host, even if its Retry-After is longer."),
    ] = MAX_COOLDOWN_S
    circuit_breaker: Annotated[
        bool, Meta(description="Whether fetches from a host stop for a while when connections to it fail.")
    ] = True

    def __post_init__(self) -> None:
        for name, check in (("queue", check_queue), ("namespace", check_namespace)):
            try:
                check(getattr(self, name))
            except InvalidRequest as problem:
                raise InvalidSetting.of(name, problem.problem) from None
        try:
            if self.http:
                parse_address(self.http)
        except ValueError as problem:
            raise InvalidSetting.of("http", str(problem)) from None
        if not self.user_agent.isascii() or not self.user_agent.isprintable():
            raise InvalidSetting.of("user_agent", "takes printable ASCII characters")
        for cidr in self.allow_net:
            try:
                ipaddress.ip_network(cidr)
            except ValueError as problem:
                raise InvalidSetting.of("allow_net", str(problem)) from problem

    @property
    def keys(self) -> Keys:
        """The key names of the queue."""
        return Keys(queue=self.queue, namespace=self.namespace)

    @property
    def max_dead_letters(self) -> int:
        """How many dead letters the queue keeps; 0: none."""
        return 0 if self.dead_letters is DeadLetterKind.NONE else self.dead_letter_max


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """The variables with fetchq's prefix that fetchq does not have, each with the most similar one that it has."""
    known = {variable_of(name) for name in Settings.__struct_fields__}
    known |= {SUPERVISED_ENV, FOLDER_ENV, *VARIABLES, *GATEWAY_VARIABLES}
    unknown = [name for name in environ if name.startswith(ENV_PREFIX) and name not in known]
    if not unknown:
        return {}
    import difflib  # noqa: PLC0415  # rarely needed, and every command starts here

    return {name: next(iter(difflib.get_close_matches(name, known, 1, 0.75)), None) for name in unknown}
