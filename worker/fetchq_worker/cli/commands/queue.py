"""`fetchq status`, `pause` and `resume`: their options. `cli.actions.queue` runs them."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Where, queue_options
from .start import start

app = typer.Typer(rich_markup_mode=None)


@app.command()
@queue_options
def status(
    hosts: Annotated[bool, typer.Option("--hosts", help="Show the busiest hosts and those in cooldown, too.")] = False,
    top: Annotated[int, typer.Option("--top", metavar="N", help="Number of hosts of each kind.", min=1, max=1000)] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    *,
    where: Where,
) -> None:
    """Show how many jobs are due, waiting for their host, deferred and running, and the live workers."""
    from fetchq_worker.cli.actions.queue import show_queue_state as command

    start(command, as_json, top if hosts else 0, **where)


@app.command()
@queue_options
def pause(*, where: Where) -> None:
    """Start no more jobs of the queue. Running jobs continue; jobs can still be enqueued."""
    from fetchq_worker.cli.actions.queue import pause_queue as command

    start(command, **where)


@app.command()
@queue_options
def resume(*, where: Where) -> None:
    """Start jobs of the queue again."""
    from fetchq_worker.cli.actions.queue import resume_queue as command

    start(command, **where)
