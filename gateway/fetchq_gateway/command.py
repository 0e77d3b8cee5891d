"""`fetchq serve`: its options. `serving` runs it. No heavy module is imported before the command runs."""

from __future__ import annotations

import os

import click

from fetchq.command.command_line import CONTEXT
from fetchq.command.option_types import LOG_SHAPE, START_WAIT, given_settings, options, setting, setting_names

_settings = options(
    setting("listen", "ADDRESS", "HOST:PORT or unix:PATH on which requests are answered.", default="127.0.0.1:8080"),
    setting(
        "metrics_only",
        None,
        "Answer metrics and health checks alone, on any address; there is no login.",
        default=None,
    ),
    setting(
        "allow_host",
        "NAME",
        "A Host header to answer, beside those of this machine; can be repeated. Off loopback, none means all.",
        default=None,
        multiple=True,
    ),
    START_WAIT,
    LOG_SHAPE,
    setting(
        "redis_url",
        "URL",
        "Address of Redis: redis://, rediss://, unix:// or redis+sentinel://.",
        default="redis://localhost:6379",
    ),
    setting("queue", "NAME", "Name of a queue; can be repeated.", default="arq:queue", multiple=True),
    setting("namespace", "TEXT", "Prefix of every key name, such as a hash tag.", default=None),
)


@click.command(context_settings=CONTEXT, short_help="Answer metrics and health checks of queues over HTTP.")
@_settings
def serve() -> None:
    """Answer HTTP until SIGTERM or Ctrl-C: /metrics/queue has the figures of the queues for Prometheus, /metrics those
    of this process, /livez and /readyz are health checks."""
    from fetchq.command.run import run  # noqa: PLC0415
    from fetchq.command.settings import Given, given_by  # noqa: PLC0415

    from .serving import serve as command  # noqa: PLC0415
    from .settings import GatewaySettings  # noqa: PLC0415

    context = click.get_current_context()
    given = given_by(os.environ, setting_names(context.command))
    given |= {name: Given(*one) for name, one in given_settings(context).items()}
    context.exit(run(lambda: command(GatewaySettings.of(given))))
