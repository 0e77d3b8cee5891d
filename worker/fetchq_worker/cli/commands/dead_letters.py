"""`fetchq dead`: its commands and their options. `cli.actions.dead_letters` runs them."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Where, queue_options
from .start import start

app = typer.Typer(
    help="List the jobs that failed for good, retry or delete them.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", hidden=True)]
Status = Annotated[
    str | None, typer.Option("--status", metavar="NAME", help="Jobs with this outcome, such as TIMEOUT or WORKER_LOST.")
]
Host = Annotated[str | None, typer.Option("--host", metavar="NAME", help="Jobs whose URL has this host.")]
Tag = Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Jobs with this tag.")]
OlderThan = Annotated[
    str | None,
    typer.Option(
        "--older-than", metavar="AGE", help="Jobs that failed longer ago than this, such as 90s, 15m, 6h, 2d or 1w."
    ),
]
NewerThan = Annotated[
    str | None, typer.Option("--newer-than", metavar="AGE", help="Jobs that failed less long ago than this.")
]
Everything = Annotated[bool, typer.Option("--all", help="All dead letters of the queue.")]


@app.command("list")
@queue_options
def list_(
    status: Status = None,
    host: Host = None,
    tag: Tag = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", help="The newest N only.", show_default="all", min=1)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON each.")] = False,
    *,
    where: Where,
) -> None:
    """List dead letters, newest first: id, time of failure, outcome, URL or function, and error."""
    from fetchq_worker.cli.actions.dead_letters import list_dead_letters as command

    wanted = _wanted(status, host, tag, older_than, newer_than)
    start(command, wanted, limit, as_json, **where)


@app.command()
@queue_options
def show(
    job_id: Annotated[str, typer.Argument(metavar="ID", hidden=True)],
    secrets: Annotated[
        bool, typer.Option("--secrets", help="Show the values of headers such as Authorization and Cookie.")
    ] = False,
    payload: Annotated[bool, typer.Option("--payload", help="Print only the job's payload, unchanged.")] = False,
    *,
    where: Where,
) -> None:
    """Print the dead letter of job ID as JSON: its request, its attempts and its error."""
    from fetchq_worker.cli.actions.dead_letters import show_dead_letter as command

    start(command, job_id, secrets, payload, **where)


@app.command()
@queue_options
def retry(
    job_ids: Ids = None,
    status: Status = None,
    host: Host = None,
    tag: Tag = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    everything: Everything = False,
    *,
    where: Where,
) -> None:
    """Enqueue jobs again, by ID or by filter; they keep their ids.

    Their attempts are counted from zero, their results are deleted, and their deadlines no longer apply. Exit status:
    0 success; 1 some could not be enqueued; 2 wrong usage; 3 Redis is missing or refuses commands.
    """
    from fetchq_worker.cli.actions.dead_letters import retry as command

    wanted = _wanted(status, host, tag, older_than, newer_than)
    start(command, job_ids or (), wanted, everything, **where)


@app.command()
@queue_options
def purge(
    job_ids: Ids = None,
    status: Status = None,
    host: Host = None,
    tag: Tag = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    everything: Everything = False,
    *,
    where: Where,
) -> None:
    """Delete dead letters, by ID or by filter."""
    from fetchq_worker.cli.actions.dead_letters import purge as command

    wanted = _wanted(status, host, tag, older_than, newer_than)
    start(command, job_ids or (), wanted, everything, **where)


def _wanted(
    status: str | None, host: str | None, tag: str | None, older_than: str | None, newer_than: str | None
) -> dict[str, str]:
    """The filters that were given, as text."""
    given = {"status": status, "host": host, "tag": tag, "older_than": older_than, "newer_than": newer_than}
    return {name: text for name, text in given.items() if text is not None}
