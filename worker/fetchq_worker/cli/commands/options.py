"""The options that several commands share: name, variable, and what `--help` says."""

from __future__ import annotations

from typing import Annotated

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
        help="Redis for the run, where workers elsewhere may help.",
        show_default="one inside the process",
    ),
]
Queue = Annotated[str, typer.Option("--queue", envvar="FETCHQ_QUEUE", metavar="NAME", help="Name of the queue.")]
Concurrency = Annotated[
    int,
    typer.Option("--concurrency", "-c", envvar="FETCHQ_CONCURRENCY", metavar="N", help="Fetches at a time."),
]
PerHost = Annotated[
    int | None,
    typer.Option(
        "--per-host",
        metavar="N",
        help="Fetches of one host at a time, where Redis is inside the process.",
        show_default="8",
    ),
]
AllowNet = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-net",
        envvar="FETCHQ_ALLOW_NET",
        metavar="CIDR",
        help="A network that may be fetched from although it is not public, such as 10.0.0.0/8; can be repeated. "
        "localhost takes two: 127.0.0.0/8 and ::1/128.",
    ),
]
AllowPort = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-port",
        envvar="FETCHQ_ALLOW_PORT",
        metavar="N",
        help="A port that may be fetched from besides 80, 443 and those from 1024 without another protocol; "
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
        help="A PEM file of authorities that are trusted beside the system's.",
    ),
]
Credential = Annotated[
    str | None,
    typer.Option("--credential", metavar="NAME", help="A credential of the worker's to send."),
]
Proxy = Annotated[
    str | None,
    typer.Option("--proxy", metavar="NAME", help="A proxy of the worker's to go through."),
]
PriorityOption = Annotated[
    str,
    typer.Option("--priority", metavar="LANE", help="high, default or low: which jobs go first."),
]
LimitKey = Annotated[
    str | None,
    typer.Option(
        "--limit-key",
        metavar="TEXT",
        help="What the limits belong to, such as a tenant.",
        show_default="the host of each URL",
    ),
]
Cookies = Annotated[bool, typer.Option("--cookies", help="Send along the cookies that redirects set.")]
FromFile = Annotated[
    str | None,
    typer.Option("--from", metavar="FILE", help="A file of URLs, one a line, # for comments; - is stdin."),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", metavar="S", help="Seconds for one attempt, as a whole."),
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
        help="Which failed jobs are kept as dead letters: none; retryable, where another try might help; "
        "or all, 404s and the like too.",
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
        help="Dead letters that are kept of the queue, the newest.",
    ),
]
Bodies = Annotated[
    str | None,
    typer.Option(
        "--bodies",
        metavar="DIR",
        help="Keep bodies that are not text, or above 64 KiB, in files named by their SHA-256.",
        show_default="they are left out",
    ),
]
