"""The options that several commands share: name, variable, and what `--help` says."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any, get_type_hints

import typer

_REDIS_HELP = "Address of Redis: redis://, rediss://, unix:// or redis+sentinel://."
# Arguments are hidden from the help's list, where Typer would write Python's types beside them: the usage line names
# them, and each command's own sentence says what they are.
Urls = Annotated[list[str] | None, typer.Argument(metavar="URL", hidden=True)]
Redis = Annotated[
    str,
    typer.Option("--redis", envvar="FETCHQ_REDIS_URL", metavar="URL", help=_REDIS_HELP),
]
OwnRedis = Annotated[
    str | None,
    typer.Option(
        "--redis",
        envvar="FETCHQ_REDIS_URL",
        metavar="URL",
        help="Redis for the run; other workers on it take part.",
        show_default="a private one for this run",
    ),
]
Queue = Annotated[str, typer.Option("--queue", envvar="FETCHQ_QUEUE", metavar="NAME", help="Name of the queue.")]
Namespace = Annotated[
    str,
    typer.Option(
        "--namespace",
        envvar="FETCHQ_NAMESPACE",
        metavar="TEXT",
        help="Prefix of every key name, such as a hash tag.",
    ),
]
Where = dict[str, Any]
"""Which queue a command is about: the settings `redis_url`, `queue` and `namespace`."""

_WHERE: Any = {
    "redis_url": (Redis, "redis://localhost:6379"),
    "queue": (Queue, "arq:queue"),
    "namespace": (Namespace, ""),
}
_WITH_OWN_REDIS: Any = {**_WHERE, "redis_url": (OwnRedis, None)}
_WITHOUT_REDIS: Any = {name: option for name, option in _WHERE.items() if name != "redis_url"}


def queue_options(command: Callable[..., None], *, options: Any = _WHERE) -> Callable[..., None]:
    """Adds `--redis`, `--queue` and `--namespace` to `command`, which gets their values as its argument `where`."""

    @wraps(command)
    def with_where(**given: Any) -> None:
        where = {name: given.pop(name) for name in options}
        command(**given, where=where)

    hints = get_type_hints(command, include_extras=True)
    parameters = [
        one.replace(annotation=hints[one.name], kind=Parameter.KEYWORD_ONLY)
        for one in signature(command).parameters.values()
        if one.name != "where"
    ]
    parameters += [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=option)
        for name, (option, default) in options.items()
    ]
    with_where.__signature__ = signature(command).replace(parameters=parameters)  # type: ignore[attr-defined]  # Typer reads it
    return with_where


def queue_options_or_private_server(command: Callable[..., None]) -> Callable[..., None]:
    """As `queue_options`, for a command that starts a private server where `redis_url` is None."""
    return queue_options(command, options=_WITH_OWN_REDIS)


def queue_options_without_redis(command: Callable[..., None]) -> Callable[..., None]:
    """As `queue_options`, for a command that needs no server."""
    return queue_options(command, options=_WITHOUT_REDIS)


Concurrency = Annotated[
    int,
    typer.Option("--concurrency", "-c", envvar="FETCHQ_CONCURRENCY", metavar="N", help="Fetches at a time."),
]
PerHost = Annotated[
    int | None,
    typer.Option(
        "--per-host",
        metavar="N",
        help="Fetches of one host at a time; not with --redis.",
        show_default="8",
    ),
]
AllowNet = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-net",
        envvar="FETCHQ_ALLOW_NET",
        metavar="CIDR",
        help="A non-public network that may be fetched from, such as 10.0.0.0/8; can be repeated. "
        "localhost takes two: 127.0.0.0/8 and ::1/128.",
    ),
]
AllowPort = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-port",
        envvar="FETCHQ_ALLOW_PORT",
        metavar="N",
        help="An additional port; 80, 443 and ports above 1023 of no other protocol are always allowed; "
        "can be repeated.",
    ),
]
UserAgent = Annotated[
    str | None,
    typer.Option(
        "--user-agent",
        envvar="FETCHQ_USER_AGENT",
        metavar="TEXT",
        help="Product token and contact, sent with every request.",
        show_default="fetchq and its version",
    ),
]
CredentialsFile = Annotated[
    str,
    typer.Option(
        "--credentials-file",
        envvar="FETCHQ_CREDENTIALS_FILE",
        metavar="FILE",
        help="A TOML file of the credentials and proxies that requests can name.",
    ),
]
TLSCAFile = Annotated[
    str,
    typer.Option(
        "--tls-ca-file",
        envvar="FETCHQ_TLS_CA_FILE",
        metavar="FILE",
        help="A PEM file of certificate authorities to trust beside the system's.",
    ),
]
Credential = Annotated[
    str | None,
    typer.Option("--credential", metavar="NAME", help="Name of a credential that the worker holds."),
]
Proxy = Annotated[
    str | None,
    typer.Option("--proxy", metavar="NAME", help="Name of a proxy that the worker knows."),
]
PriorityOption = Annotated[
    str,
    typer.Option("--priority", metavar="LANE", help="high, default or low."),
]
LimitKey = Annotated[
    str | None,
    typer.Option(
        "--limit-key",
        metavar="TEXT",
        help="Key that limits are counted under, such as a tenant.",
        show_default="the host of each URL",
    ),
]
Cookies = Annotated[bool, typer.Option("--cookies", help="Send cookies that redirects set.")]
FromFile = Annotated[
    str | None,
    typer.Option("--from", metavar="FILE", help="A file of URLs, one a line, # for comments; - is stdin."),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", metavar="S", help="Seconds for one attempt in total."),
]
MaxBytes = Annotated[
    int,
    typer.Option("--max-bytes", metavar="N", help="Largest body, decoded, in bytes."),
]
MaxTries = Annotated[
    int,
    typer.Option("--max-tries", metavar="N", help="Attempts in all."),
]
DeadLetters = Annotated[
    str,
    typer.Option(
        "--dead-letters",
        envvar="FETCHQ_DEAD_LETTERS",
        metavar="KIND",
        help="Failed jobs that become dead letters: none; retryable, where another try might help; "
        "or all, 404s included.",
    ),
]
DeadLetterTTL = Annotated[
    float,
    typer.Option(
        "--dead-letter-ttl-s",
        envvar="FETCHQ_DEAD_LETTER_TTL_S",
        metavar="S",
        help="Seconds that a dead letter is kept: 30 days.",
    ),
]
DeadLetterMax = Annotated[
    int,
    typer.Option(
        "--dead-letter-max",
        envvar="FETCHQ_DEAD_LETTER_MAX",
        metavar="N",
        help="Dead letters that the queue keeps; the oldest are deleted.",
    ),
]
Bodies = Annotated[
    str | None,
    typer.Option(
        "--bodies",
        metavar="DIR",
        help="Write bodies that are not text, or above 64 KiB, to files named by their SHA-256.",
        show_default="they are left out",
    ),
]
