"""`fetchq limits`: its commands and their options. `cli.actions.limits` runs them."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Where, queue_options
from .start import start

app = typer.Typer(
    help="Set how fast all workers together fetch from a host; pause a host.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

Host = Annotated[str, typer.Argument(metavar="HOST", hidden=True)]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command("set")
@queue_options
def set_(
    host: Host,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", "-c", metavar="N", help="Fetches at a time.", show_default="as before, or 8"),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate", metavar="N/TIME", help="Fetches started per time, such as 2/s, 100/min, 5/h; none: no limit."
        ),
    ] = None,
    burst: Annotated[
        int | None, typer.Option("--burst", metavar="N", help="Fetches that may start at once after a pause.")
    ] = None,
    min_delay: Annotated[
        float | None, typer.Option("--min-delay", metavar="S", help="Least seconds between two starts.")
    ] = None,
    *,
    where: Where,
) -> None:
    """Set limits of HOST: a host, all hosts under a domain ('*.example.org'), or every other host ('*').

    Limits that are not named are unchanged. The limits apply at once, to waiting jobs too. Prints the limits of HOST.
    """
    from fetchq import HostLimits
    from fetchq_worker.cli.actions.limits import set_limits as command

    wanted = HostLimits(concurrency=concurrency, rate=rate, burst=burst, min_delay_s=min_delay)
    start(command, host, wanted, **where)


@app.command()
@queue_options
def show(
    host: Annotated[str | None, typer.Argument(metavar="HOST", hidden=True)] = None,
    as_json: AsJson = False,
    *,
    where: Where,
) -> None:
    """Show the effective limits of HOST; without HOST, all limits that are set."""
    from fetchq_worker.cli.actions.limits import show_limits as command

    start(command, host, as_json, **where)


@app.command()
@queue_options
def clear(host: Host, *, where: Where) -> None:
    """Remove all limits of HOST, and its pause. Exit status 1 if there were none."""
    from fetchq_worker.cli.actions.limits import clear_limits as command

    start(command, host, **where)


@app.command()
@queue_options
def pause(host: Host, *, where: Where) -> None:
    """Start no more jobs of HOST. Running jobs continue; the others wait."""
    from fetchq_worker.cli.actions.limits import pause_host as command

    start(command, host, **where)


@app.command()
@queue_options
def resume(host: Host, *, where: Where) -> None:
    """Start jobs of HOST again."""
    from fetchq_worker.cli.actions.limits import resume_host as command

    start(command, host, **where)
