"""`fetchq limits`: its commands and options. What they do stands in `limits`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Queue, Redis
from .start import start

app = typer.Typer(
    help="Say how fast each host may be fetched from, by all workers together; or pause it.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

Host = Annotated[str, typer.Argument(metavar="HOST", hidden=True)]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command("set")
def set_(
    host: Host,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", "-c", metavar="N", help="Fetches at a time.", show_default="as before, or 8"),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="N/TIME", help="Starts in a time, such as 2/s, 100/min, 5/h; none lifts it."),
    ] = None,
    burst: Annotated[
        int | None, typer.Option("--burst", metavar="N", help="How many of them may come at once after a silence.")
    ] = None,
    min_delay: Annotated[
        float | None, typer.Option("--min-delay", metavar="S", help="Seconds between two starts at least.")
    ] = None,
    redis_url: Redis = "redis://localhost:6379",
    queue: Queue = "arq:queue",
) -> None:
    """Set limits of HOST: a host, all under a domain ('*.example.org'), or every other ('*').

    What is not named stays as it is. Jobs that wait already keep to it at once. Prints what is set now.
    """
    from fetchq import HostLimits
    from fetchq_worker.cli.actions.limits import set_limits as command

    wanted = HostLimits(concurrency=concurrency, rate=rate, burst=burst, min_delay_s=min_delay)
    start(command, host, wanted, redis_url=redis_url, queue=queue)


@app.command()
def show(
    host: Annotated[str | None, typer.Argument(metavar="HOST", hidden=True)] = None,
    as_json: AsJson = False,
    redis_url: Redis = "redis://localhost:6379",
    queue: Queue = "arq:queue",
) -> None:
    """Show what holds for HOST, whoever says it; without one, all that was set."""
    from fetchq_worker.cli.actions.limits import show_limits as command

    start(command, host, as_json, redis_url=redis_url, queue=queue)


@app.command()
def clear(host: Host, redis_url: Redis = "redis://localhost:6379", queue: Queue = "arq:queue") -> None:
    """Forget all that was set for HOST, a pause too. Exit status 1 if that was nothing."""
    from fetchq_worker.cli.actions.limits import clear_limits as command

    start(command, host, redis_url=redis_url, queue=queue)


@app.command()
def pause(host: Host, redis_url: Redis = "redis://localhost:6379", queue: Queue = "arq:queue") -> None:
    """Let no more jobs of HOST start. What runs goes on; the others wait."""
    from fetchq_worker.cli.actions.limits import pause_host as command

    start(command, host, redis_url=redis_url, queue=queue)


@app.command()
def resume(host: Host, redis_url: Redis = "redis://localhost:6379", queue: Queue = "arq:queue") -> None:
    """Let jobs of HOST start again."""
    from fetchq_worker.cli.actions.limits import resume_host as command

    start(command, host, redis_url=redis_url, queue=queue)
