"""The worker's settings: one struct, filled from `FETCHQ_*` and then from flags."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from fetchq import FetchqError, InvalidRedisURL, InvalidRequest, __version__
from fetchq.store.address import DEFAULT_URL, RedisAddress
from fetchq.store.keys import DEFAULT_QUEUE, Keys, check_namespace, check_queue

from .health_address import parse_address

ENV_PREFIX: Final = "FETCHQ_"
FIRST_COOLDOWN_S: Final = 60.0
"""Cooldown of a host after a 429 or 503 without a usable Retry-After."""
MAX_COOLDOWN_S: Final = 86_400.0
LISTS: Final = ("allow_net", "allow_port")
"""Settings with several values; commas or blanks separate them in the environment and within one flag."""


class InvalidSetting(FetchqError, ValueError):
    """A setting has an invalid value. The message names its flag and its variable."""


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


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a worker runs. Each field is read from the variable `FETCHQ_` + its name in capitals; a flag outranks it."""

    redis_url: Annotated[str, Meta(description="Address of Redis.")] = DEFAULT_URL
    queue: Annotated[str, Meta(min_length=1, max_length=200, description="Name of the queue.")] = DEFAULT_QUEUE
    namespace: Annotated[str, Meta(max_length=200, description="Prefix of every key name, such as a hash tag.")] = ""
    concurrency: Annotated[int, Meta(ge=1, le=100_000, description="Fetches that run at a time in one process.")] = 100
    grace_s: Annotated[
        float, Meta(ge=0, le=3600, description="Seconds that running jobs have to finish when a worker stops.")
    ] = 20.0
    lease_s: Annotated[
        float,
        Meta(ge=0.5, le=3600, description="Seconds without a heartbeat after which other workers run a worker's jobs."),
    ] = 15.0
    start_wait_s: Annotated[
        float,
        Meta(ge=0, le=86_400, description="Seconds that a starting worker waits for a Redis that is not available."),
    ] = 20.0
    http: Annotated[
        str, Meta(description="HOST:PORT or the path of a unix socket that answers /livez and /readyz; none if empty.")
    ] = ""
    verbose: Annotated[bool, Meta(description="Whether the start, outcome and end of each job is logged.")] = False
    processes: Annotated[int, Meta(ge=1, le=256, description="Worker processes under one supervisor.")] = 1
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
        Meta(ge=0, le=1 << 40, description="Largest total size of the cache that workers share in Redis, in bytes."),
    ] = 64 << 20
    dead_letters: Annotated[
        DeadLetterKind, Meta(description="Failed jobs that become dead letters: none, retryable or all.")
    ] = DeadLetterKind.RETRYABLE
    dead_letter_ttl_s: Annotated[
        float, Meta(ge=1, le=10 * 366 * 86_400, description="Seconds that a dead letter is kept.")
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
        Meta(
            ge=0, le=86_400, description="First cooldown of a host in seconds, after a 429 or 503 without Retry-After."
        ),
    ] = FIRST_COOLDOWN_S
    max_cooldown_s: Annotated[
        float,
        Meta(
            ge=0, le=7 * 86_400, description="Longest cooldown of a host in seconds, even if its Retry-After is longer."
        ),
    ] = MAX_COOLDOWN_S
    circuit_breaker: Annotated[
        bool, Meta(description="Whether fetches from a host stop for a while when connections to it fail.")
    ] = True

    def __post_init__(self) -> None:
        for name, check in (("queue", check_queue), ("namespace", check_namespace)):
            try:
                check(getattr(self, name))
            except InvalidRequest as problem:
                raise InvalidSetting(f"{_shown(name)} {problem.problem}") from None
        try:
            if self.http:
                parse_address(self.http)
        except ValueError as problem:
            raise InvalidSetting(f"{_shown('http')} {problem}") from None
        if not self.user_agent.isascii() or not self.user_agent.isprintable():
            raise InvalidSetting(f"{_shown('user_agent')} takes printable ASCII characters")
        for cidr in self.allow_net:
            try:
                ipaddress.ip_network(cidr)
            except ValueError as problem:
                raise InvalidSetting(f"{_shown('allow_net')}: {problem}") from problem

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The fields; the address of Redis without its password."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        return list({**shown, "redis_url": _without_password(self.redis_url)}.items())

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    @property
    def keys(self) -> Keys:
        """The key names of the queue."""
        return Keys(queue=self.queue, namespace=self.namespace)

    @property
    def max_dead_letters(self) -> int:
        """How many dead letters the queue keeps; 0: none."""
        return 0 if self.dead_letters is DeadLetterKind.NONE else self.dead_letter_max

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **flags: Any) -> Settings:
        """The settings in the environment, outranked by those `flags` that are not None; raises `InvalidSetting`."""
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for field in msgspec.structs.fields(cls):
            text = environ.get(ENV_PREFIX + field.name.upper(), "").strip()
            if text:
                values[field.name] = split_list(text) if field.name in LISTS else text
        values.update({name: value for name, value in flags.items() if value is not None})
        try:
            return msgspec.convert(values, cls, strict=False)
        except msgspec.ValidationError as problem:
            if isinstance(problem.__cause__, InvalidSetting):
                raise problem.__cause__ from None
            raise InvalidSetting(_as_written(str(problem))) from None
        except UnicodeError:  # bytes of the environment that are not UTF-8
            raise InvalidSetting(_not_utf8(values)) from None


def _not_utf8(values: Mapping[str, Any]) -> str:
    for name, value in values.items():
        try:
            str(value).encode()
        except UnicodeError:
            return f"{_shown(name)} is not UTF-8"
    return "a setting is not UTF-8"


def _without_password(redis_url: str) -> str:
    try:
        return str(RedisAddress.parse(redis_url))
    except InvalidRedisURL:
        return "..."


def split_list(text: str) -> list[str]:
    return [part for part in text.replace(",", " ").split() if part]


def _as_written(problem: str) -> str:
    """msgspec's sentence, which ends in `- at `$.concurrency``, behind the names of the flag and the variable."""
    what, _, where = problem.partition(" - at `$.")
    name = where.rstrip("`").split("[")[0]
    return f"{_shown(name)}: {what[0].lower()}{what[1:]}" if name else problem


def _shown(name: str) -> str:
    """A setting as an operator knows it: its flag and its variable."""
    flag = "redis" if name == "redis_url" else name.replace("_", "-")
    return f"--{flag} ({ENV_PREFIX}{name.upper()})"
