"""`fetchq limits`: its commands and their options. `cli.actions.limits` runs them."""

from __future__ import annotations

import click

from fetchq.command.command_line import CONTEXT
from fetchq.command.option_types import Group, Rate, Time, Whole, option

from .options import queue_options
from .start import start

_host = click.argument("host", metavar="HOST")
_as_json = option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group(cls=Group, context_settings=CONTEXT)
def limits() -> None:
    """Set how fast a host is fetched from, or pause it."""


@limits.command("set")
@_host
@option("--concurrency", "-c", metavar="N", type=Whole(), show_default="as before, or 8", help="Fetches at a time.")
@option("--rate", metavar="N/TIME", type=Rate(), help="Fetches started per time: 2/s, 100/min, 5/h, 1/30s; none.")
@option("--burst", metavar="N", type=Whole(), help="Fetches that may start at once after a pause.")
@option("--min-delay", "min_delay_s", metavar="TIME", type=Time(), help="Least time between two starts.")
@_as_json
@queue_options
def set_(
    host: str, concurrency: int | None, rate: str | None, burst: int | None, min_delay_s: float | None, as_json: bool
) -> None:
    """Set limits of HOST: a host, all hosts under a domain ('*.example.org'), or every other host ('*').

    Limits that are not named are unchanged. The limits apply at once, to waiting jobs too. Prints the limits of HOST.
    """
    from fetchq import HostLimits
    from fetchq_worker.cli.actions.limits import set_limits as command

    wanted = HostLimits(concurrency=concurrency, rate=rate, burst=burst, min_delay_s=min_delay_s)
    start(command, host, wanted, as_json)


@limits.command()
@click.argument("host", metavar="[HOST]", required=False)
@_as_json
@queue_options
def show(host: str | None, as_json: bool) -> None:
    """Show the effective limits of HOST; without HOST, all limits that are set."""
    from fetchq_worker.cli.actions.limits import show_limits as command

    start(command, host, as_json)


@limits.command()
@_host
@queue_options
def clear(host: str) -> None:
    """Remove all limits of HOST, and its pause. Exit status 1 if there were none."""
    from fetchq_worker.cli.actions.limits import clear_limits as command

    start(command, host)


@limits.command()
@_host
@queue_options
def pause(host: str) -> None:
    """Start no more jobs of HOST. Running jobs continue; the others wait."""
    from fetchq_worker.cli.actions.limits import pause_host as command

    start(command, host)


@limits.command()
@_host
@queue_options
def resume(host: str) -> None:
    """Start jobs of HOST again."""
    from fetchq_worker.cli.actions.limits import resume_host as command

    start(command, host)
