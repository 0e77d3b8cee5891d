"""`fetchq dead`: its commands and their options. `cli.actions.dead_letters` runs them."""

from __future__ import annotations

from typing import Any

import click

from fetchq.command.command_line import CONTEXT
from fetchq.command.option_types import Group, Time, Whole, option, options

from .options import queue_options
from .start import start

_AGES = "such as 90s, 15m, 6h, 2d or 1w"
_ids = click.argument("job_ids", nargs=-1, metavar="[ID]...")
_filters = options(
    option("--status", metavar="NAME", help="Jobs with this outcome, such as TIMEOUT or WORKER_LOST."),
    option("--host", metavar="NAME", help="Jobs whose URL has this host."),
    option("--tag", metavar="TAG", help="Jobs with this tag."),
    option("--older-than", "older_than_s", metavar="AGE", type=Time(), help=f"Jobs that failed longer ago, {_AGES}."),
    option("--newer-than", "newer_than_s", metavar="AGE", type=Time(), help="Jobs that failed less long ago."),
)
_everything = options(
    option("--all", "everything", is_flag=True, help="All dead letters of the queue."),
    option("--json", "as_json", is_flag=True, help="As JSON, a line each."),
)


@click.group(cls=Group, context_settings=CONTEXT)
def dead() -> None:
    """List, retry or delete the jobs that failed for good."""


@dead.command("list")
@_filters
@option("--limit", metavar="N", type=Whole(1), show_default="all", help="The newest N only.")
@option("--json", "as_json", is_flag=True, help="One line of JSON each.")
@queue_options
def list_(limit: int | None, as_json: bool, **filters: Any) -> None:
    """List dead letters, newest first: id, time of failure, outcome, URL or function, and error."""
    from fetchq_worker.cli.actions.dead_letters import list_dead_letters as command

    start(command, _wanted(filters), limit, as_json)


@dead.command()
@click.argument("job_id", metavar="ID")
@option("--secrets", is_flag=True, help="Show the values of headers such as Authorization and Cookie.")
@option("--payload", is_flag=True, help="Print only the job's payload, unchanged.")
@queue_options
def show(job_id: str, secrets: bool, payload: bool) -> None:
    """Print the dead letter of job ID as JSON: its request, its attempts and its error."""
    from fetchq_worker.cli.actions.dead_letters import show_dead_letter as command

    start(command, job_id, secrets, payload)


@dead.command()
@_ids
@_filters
@_everything
@queue_options
def retry(job_ids: tuple[str, ...], everything: bool, as_json: bool, **filters: Any) -> None:
    """Enqueue jobs again, by ID or by filter; they keep their ids.

    Their attempts are counted from zero, their results are deleted, and their deadlines no longer apply. Exit status:
    0 success; 1 some could not be enqueued; 2 wrong usage; 3 Redis is missing or refuses commands.
    """
    from fetchq_worker.cli.actions.dead_letters import retry as command

    start(command, job_ids, _wanted(filters), everything, as_json)


@dead.command()
@_ids
@_filters
@_everything
@queue_options
def purge(job_ids: tuple[str, ...], everything: bool, as_json: bool, **filters: Any) -> None:
    """Delete dead letters, by ID or by filter."""
    from fetchq_worker.cli.actions.dead_letters import purge as command

    start(command, job_ids, _wanted(filters), everything, as_json)


def _wanted(filters: dict[str, Any]) -> dict[str, Any]:
    """The filters that were given."""
    return {name: value for name, value in filters.items() if value is not None}
