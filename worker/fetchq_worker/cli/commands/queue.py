"""`fetchq status`, `top`, `metrics`, `pause` and `resume`: their options. `cli.actions` and `cli.top` run them."""

from __future__ import annotations

import click

from fetchq.command.command_line import CONTEXT
from fetchq.command.option_types import Choice, Time, Whole, option

from .options import queue_options
from .start import start


@click.command(context_settings=CONTEXT, short_help="Show how many jobs wait and run, and the live workers.")
@option("--hosts", is_flag=True, help="Show the busiest hosts and those in cooldown, too.")
@option("--top", metavar="N", type=Whole(1), show_default="10", help="Number of hosts of each kind, with --hosts.")
@option("--json", "as_json", is_flag=True, help="As JSON.")
@queue_options
def status(hosts: bool, top: int | None, as_json: bool) -> None:
    """Show how many jobs are due, waiting for their host, deferred and running, how many have ended, and the live
    workers."""
    from fetchq_worker.cli.actions.figures import show_queue_state as command

    start(command, as_json, hosts, top)


@click.command(context_settings=CONTEXT, short_help="Watch the queue: a live view in the terminal.")
@option(
    "--interval",
    "interval_s",
    metavar="TIME",
    type=Time(),
    default=2.0,
    show_default="2s",
    help="Time between two readings.",
)
@option("--once", is_flag=True, help="Print one frame as plain text, without bars, and end.")
@queue_options
def top(interval_s: float, once: bool) -> None:
    """Watch the queue in the terminal: demand, jobs by state, throughput, hosts, workers, and what is wrong.

    Keys: p pauses or resumes the queue, arrows and enter look at a host, ? lists all, q quits. Without a terminal, or
    with TERM=dumb, prints one frame as --once does.
    """
    from fetchq_worker.cli.top.watch import watch as command

    start(command, once, interval_s)


@click.command(context_settings=CONTEXT, short_help="Print the metrics of the queue once.")
@option(
    "--format",
    "chosen",
    type=Choice(["prometheus", "openmetrics", "json"]),
    default="prometheus",
    help="Prometheus's text format, OpenMetrics, or JSON.",
)
@queue_options
def metrics(chosen: str) -> None:
    """Print the metrics of the queue once, as /metrics/queue of a worker has them."""
    from fetchq_worker.cli.actions.figures import show_metrics as command

    start(command, chosen)


@click.command(context_settings=CONTEXT, short_help="Start no more jobs of the queue.")
@queue_options
def pause() -> None:
    """Start no more jobs of the queue. Running jobs continue; jobs can still be enqueued."""
    from fetchq_worker.cli.actions.queue import pause_queue as command

    start(command)


@click.command(context_settings=CONTEXT, short_help="Start jobs of the queue again.")
@queue_options
def resume() -> None:
    """Start jobs of the queue again."""
    from fetchq_worker.cli.actions.queue import resume_queue as command

    start(command)
