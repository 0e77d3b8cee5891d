"""The worker's settings: one struct, filled from `FETCHQ_*` and then from flags."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from fetchq import FetchqError, InvalidRedisURL, InvalidRequest, __version__
from fetchq.store.address import DEFAULT_URL, VARIABLES, RedisAddress, UrlInEnvironment
from fetchq.store.keys import DEFAULT_QUEUE, Keys, check_namespace, check_queue
from fetchq.units import duration_text, parse_bytes, parse_duration_s, size_text

from .health_address import FOLDER_ENV, parse_address

ENV_PREFIX: Final = "FETCHQ_"
SUPERVISED_ENV: Final = "FETCHQ_SUPERVISED"
"""Set in the environment of a supervisor's children: their stdin is the supervisor's pipe."""
FIRST_COOLDOWN_S: Final = 60.0
"""Cooldown of a host after a 429 or 503 without a usable Retry-After."""
MAX_COOLDOWN_S: Final = 86_400.0
LISTS: Final = ("allow_net", "allow_port")
"""Settings with several values; commas or blanks separate them in the environment and within one flag."""
_LOGGING: Final = ("log_level", "log_format", "log_jobs")
_FLAGS: Final = ("verbose", "allow_unverified_tls", "circuit_breaker")
_TRUTH: Final = {"yes": True, "on": True, "no": False, "off": False}
"""Beside true, false, 1 and 0."""


class InvalidSetting(FetchqError, ValueError):
    """A setting has an invalid value. The message names its flag and its variable, or the one that was used."""

    def __init__(self, sentence: str, name: str | None = None, problem: str = "") -> None:
        super().__init__(sentence)
        self.name = name
        self.problem = problem

    @classmethod
    def of(cls, name: str, problem: str) -> InvalidSetting:
        """For the field `name`; `problem` is the rest of the sentence."""
        return cls(f"{flag_of(name)} ({variable_of(name)}): {problem}", name, problem)


class Given(NamedTuple):
    """A value of a setting, and where it was given: `FETCHQ_CONCURRENCY` or `--concurrency (-c)`."""

    value: Any
    origin: str


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


class LogFormat(StrEnum):
    """The shape of a log line."""

    TEXT = "text"
    JSON = "json"
    """One JSON object a line."""


class LogLevel(StrEnum):
    """The least severe log lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogJobs(StrEnum):
    """Which jobs have log lines."""

    NONE = "none"
    FAILED = "failed"
    """Each job that failed for good, with its error."""
    ALL = "all"
    """Also the start, the outcome and the end of each job."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
        str, Meta(description="HOST:PORT or the path of a unix socket that answers /livez and /readyz.")
    ] = ""
    log_level: Annotated[LogLevel, Meta(description="The least severe log lines: debug, info, warning or error.")] = (
        LogLevel.INFO
    )
    log_format: Annotated[LogFormat, Meta(description="The shape of log lines: text or json.")] = LogFormat.TEXT
    log_jobs: Annotated[LogJobs, Meta(description="Jobs that have log lines: none; failed, for good; or all.")] = (
        LogJobs.FAILED
    )
    verbose: Annotated[bool, Meta(description="The same as log_jobs=all.")] = False
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
        given = given_by(os.environ if environ is None else environ)
        given |= {name: Given(value, flag_of(name)) for name, value in flags.items() if value is not None}
        return cls.of(given)

    @classmethod
    def of(cls, given: Mapping[str, Given]) -> Settings:
        """The settings with the values in `given`; text has the form of a flag. Raises `InvalidSetting`."""
        try:
            values = {name: _value_of(name, one.value) for name, one in given.items()}
            return msgspec.convert(values, cls, strict=False)
        except msgspec.ValidationError as problem:
            if not isinstance(cause := problem.__cause__, InvalidSetting):
                cause = _as_written(str(problem), given)
            if cause.name is not None and cause.name in given:
                cause = InvalidSetting(f"{given[cause.name].origin}: {cause.problem}", cause.name, cause.problem)
            raise cause from None


def variable_of(name: str) -> str:
    """The environment variable of a setting: `FETCHQ_GRACE` for `grace_s`, since its value names the unit."""
    return ENV_PREFIX + name.removesuffix("_s").upper()


def flag_of(name: str) -> str:
    """The flag of a setting: `--grace` for `grace_s`."""
    return "--redis" if name == "redis_url" else f"--{name.removesuffix('_s').replace('_', '-')}"


def given_by(environ: Mapping[str, str], names: Collection[str] | None = None) -> dict[str, Given]:
    """The settings among `names` (None: all) that are in the environment. An empty variable counts as absent."""
    wanted = Settings.__struct_fields__ if names is None else names
    found = ((name, variable_of(name)) for name in wanted)
    given = {name: Given(text, at) for name, at in found if (text := environ.get(at, "").strip())}
    if "redis_url" in wanted and (origin := (url := UrlInEnvironment.of(environ)).origin):
        given["redis_url"] = Given(url, origin)
    return given


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """The variables with fetchq's prefix that fetchq does not have, each with the most similar one that it has."""
    known = {variable_of(name) for name in Settings.__struct_fields__} | {SUPERVISED_ENV, FOLDER_ENV, *VARIABLES}
    unknown = [name for name in environ if name.startswith(ENV_PREFIX) and name not in known]
    if not unknown:
        return {}
    import difflib  # noqa: PLC0415  # rarely needed, and every command starts here

    return {name: next(iter(difflib.get_close_matches(name, known, 1, 0.75)), None) for name in unknown}


def _without_password(redis_url: str) -> str:
    try:
        return str(RedisAddress.parse(redis_url))
    except InvalidRedisURL:
        return "..."


def split_list(text: str) -> list[str]:
    return [part for part in text.replace(",", " ").split() if part]


def _value_of(name: str, value: Any) -> Any:
    """The value of a flag or a variable with its unit applied; raises `msgspec.ValidationError`."""
    try:
        if name in LISTS:
            texts = [value] if isinstance(value, str) else [str(one) for one in value]
            "".join(texts).encode()
            return [part for text in texts for part in split_list(text)]
        if isinstance(value, UrlInEnvironment):
            value = value.read()
        if isinstance(value, str):
            value.encode()  # bytes of the environment that are not UTF-8 are lone surrogates
            if name == "redis_url":
                RedisAddress.parse(value)
            if name.endswith("_s"):
                return parse_duration_s(value)
            if name.endswith("_bytes"):
                return parse_bytes(value)
            if name in _FLAGS:
                return _TRUTH.get(value.lower(), value)
            if name in _LOGGING:
                return value.lower()  # as Python's logging and others write levels
    except UnicodeError:
        raise msgspec.ValidationError from InvalidSetting.of(name, "is not UTF-8")
    except ValueError as problem:
        raise msgspec.ValidationError from InvalidSetting.of(name, str(problem))
    return value


def _as_written(problem: str, given: Mapping[str, Given]) -> InvalidSetting:
    """The sentence for msgspec's, which ends in `- at `$.concurrency``."""
    _what, _, where = problem.partition(" - at `$.")
    name = where.rstrip("`").split("[")[0]
    if not name:
        return InvalidSetting(problem)
    value = given[name].value
    shown = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return InvalidSetting.of(name, f"takes {_takes(name)}, not {str(shown)[:80]!r}")


def _takes(name: str) -> str:
    """The values that a setting can have, in words."""
    [field] = (field for field in msgspec.structs.fields(Settings) if field.name == name)
    kind = msgspec.inspect.type_info(field.type)
    kind = kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind
    match kind:
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.EnumType(cls=choices):
            *most, last = (str(choice.value) for choice in choices)
            return f"{', '.join(most)} or {last}"
        case msgspec.inspect.VarTupleType():
            return "port numbers from 1 to 65535"
        case msgspec.inspect.FloatType(ge=low, le=high):
            return f"a time from {duration_text(low or 0)} to {duration_text(high or 0)}"
        case msgspec.inspect.IntType(ge=low, le=high) if name.endswith("_bytes"):
            return f"a size from {size_text(low or 0)} to {size_text(high or 0)}"
        case msgspec.inspect.IntType(ge=low, le=high):
            return f"a whole number from {low} to {high}"
        case msgspec.inspect.StrType(min_length=least_chars, max_length=most_chars):
            return f"{least_chars or 0} to {most_chars} characters"
    raise AssertionError(f"the setting {name} has a type that no sentence describes")
