"""The options that several commands share: name, variable, and what `--help` says."""

from __future__ import annotations

import click

from fetchq.command.option_types import Choice, File, Size, Time, Whole, option, options, setting

_QUEUE = options(
    setting("queue", "NAME", "Name of the queue.", default="arq:queue"),
    setting("namespace", "TEXT", "Prefix of every key name, such as a hash tag.", default=None),
)
queue_options = options(
    setting(
        "redis_url",
        "URL",
        "Address of Redis: redis://, rediss://, unix:// or redis+sentinel://.",
        default="redis://localhost:6379",
    ),
    _QUEUE,
)
"""Which queue a command is about."""
queue_options_without_redis = _QUEUE
"""The same, for a command that needs no server."""
queue_options_or_private_server = options(
    setting("redis_url", "URL", "Redis for the run; other workers on it take part.", default="a private one"),
    _QUEUE,
)
"""The same, for a command that starts a server of its own where no address is given."""

urls = click.argument("urls", nargs=-1, metavar="[URL]...")
from_file = option(
    "--from",
    "from_file",
    metavar="FILE",
    type=File(),
    help="A file of URLs, one a line, # for comments; - is stdin.",
)
timeout = option(
    "--timeout",
    "timeout_s",
    metavar="TIME",
    type=Time(),
    default=30.0,
    show_default="30s",
    help="Limit of one attempt, redirects and body included.",
)
max_bytes = option(
    "--max-bytes",
    metavar="SIZE",
    type=Size(),
    default=4 << 20,
    show_default="4MiB",
    help="Largest body, decoded; more ends as TOO_LARGE.",
)
max_tries = option(
    "--max-tries", metavar="N", type=Whole(), default=3, show_default=True, help="Attempts in all, the first included."
)
credential = option("--credential", metavar="NAME", help="Name of a credential that the worker holds.")
proxy = option("--proxy", metavar="NAME", help="Name of a proxy that the worker knows.")
cookies = option("--cookies", is_flag=True, help="Send the cookies that redirects set.")
priority = option(
    "--priority",
    metavar="LANE",
    type=Choice(["high", "default", "low"]),
    default="default",
    show_default=True,
    help="high, default or low.",
)
bodies = option(
    "--bodies",
    metavar="DIR",
    type=File(),
    show_default="they are left out",
    help="Write bodies that are not text, or above 64 KiB, to files named by their SHA-256.",
)

concurrency = setting("concurrency", "N", "Fetches at a time.", default="100", short=("-c",))
fetch_settings = options(
    setting(
        "allow_net",
        "CIDR",
        "A non-public network that may be fetched from, such as 10.0.0.0/8; can be repeated. "
        "localhost takes two: 127.0.0.0/8 and ::1/128.",
        default=None,
        multiple=True,
    ),
    setting(
        "allow_port",
        "N",
        "An additional port; 80, 443 and ports above 1023 of no other protocol are always allowed; can be repeated.",
        default=None,
        multiple=True,
    ),
    setting(
        "user_agent",
        "TEXT",
        "Product token and contact, sent with every request.",
        default="fetchq and its version",
    ),
    setting(
        "credentials_file",
        "FILE",
        "A TOML file of the credentials and proxies that requests can name.",
        default=None,
        type=File(),
    ),
    setting(
        "tls_ca_file",
        "FILE",
        "A PEM file of certificate authorities to trust beside the system's.",
        default=None,
        type=File(),
    ),
)
"""What a fetch may reach and how it introduces itself: of `fetchq worker` and `fetchq fetch`."""
