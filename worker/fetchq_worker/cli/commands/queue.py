"""The commands about the queue as a whole: how it stands, pause and resume. What they do stands in `queue_state`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Queue, Redis
from .start import start

app = typer.Typer(rich_markup_mode=None)


@app.command()
def status(
    hosts: Annotated[
        bool, typer.Option("--hosts", help="Show the busiest hosts, and those that cool off, too.")
    ] = False,
    top: Annotated[int, typer.Option("--top", metavar="N", help="How many of each.", min=1, max=1000)] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    redis_url: Redis = "redis://localhost:6379",
    queue: Queue = "arq:queue",
) -> None:
    """Show how many jobs are due, waiting for their host, deferred and running."""
    from fetchq_worker.cli.actions.queue import show_queue_state as command

    start(command, as_json, top if hosts else 0, redis_url=redis_url, queue=queue)


@app.command()
def pause(redis_url: Redis = "redis://localhost:6379", queue: Queue = "arq:queue") -> None:
    """Let no worker start a job of the queue. What runs goes on; more can be enqueued."""
    from fetchq_worker.cli.actions.queue import pause_queue as command

    start(command, redis_url=redis_url, queue=queue)


@app.command()
def resume(redis_url: Redis = "redis://localhost:6379", queue: Queue = "arq:queue") -> None:
    """Let jobs of the queue start again."""
    from fetchq_worker.cli.actions.queue import resume_queue as command

    start(command, redis_url=redis_url, queue=queue)
