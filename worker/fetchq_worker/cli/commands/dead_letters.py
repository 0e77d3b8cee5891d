"""`fetchq dead`: its commands and options. What they do stands in `dead`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Queue, Redis
from .start import start

app = typer.Typer(
    help="Look at the jobs that failed for good, run them again, or throw them away.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", hidden=True)]
Status = Annotated[
    str | None, typer.Option("--status", metavar="NAME", help="Those that ended so, such as TIMEOUT or WORKER_LOST.")
]
Host = Annotated[str | None, typer.Option("--host", metavar="NAME", help="Those whose URL has this host.")]
Tag = Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Those with this tag.")]
OlderThan = Annotated[
    str | None,
    typer.Option("--older-than", metavar="AGE", help="Those that died longer ago, such as 90s, 15m, 6h, 2d or 1w."),
]
NewerThan = Annotated[str | None, typer.Option("--newer-than", metavar="AGE", help="Those that died less long ago.")]
Everything = Annotated[bool, typer.Option("--all", help="All of the queue's.")]


@app.command("list")
def list_(
    status: Status = None,
    host: Host = None,
    tag: Tag = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", help="The newest N alone.", show_default="all", min=1)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON each.")] = False,
    redis_url: Redis = "redis://localhost:6379",
    queue: Queue = "arq:queue",
) -> None:
    """List dead letters, newest first: id, when it died, how it ended, what was asked for, and why."""
    from fetchq_worker.cli.actions.dead_letters import list_letters as command

    wanted = _wanted(status, host, tag, older_than, newer_than)
    start(command, wanted, limit, as_json, redis_url=redis_url, queue=queue)


@app.command()
def show(
    job_id: Annotated[str, typer.Argument(metavar="ID", hidden=True)],
    secrets: Annotated[
        bool, typer.Option("--secrets", help="Show the values of headers such as Authorization and Cookie too.")
    ] = False,
    payload: Annotated[bool, typer.Option("--payload", help="Print the job's bytes alone, as they came.")] = False,
    redis_url: Redis = "redis://localhost:6379",
    queue: Queue = "arq:queue",
) -> None:
    """Print all that is kept of the job ID as JSON: its request, its attempts and its error."""
    from fetchq_worker.cli.actions.dead_letters import show_letter as command

    start(command, job_id, secrets, payload, redis_url=redis_url, queue=queue)


@app.command()
def retry(
    job_ids: Ids = None,
    status: Status = None,
    host: Host = None,
    tag: Tag = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    everything: Everything = False,
    redis_url: Redis = "redis://localhost:6379",
    queue: Queue = "arq:queue",
) -> None:
    """Put jobs back on the queue, by ID or many at once; they keep their ids.

    Their tries begin anew, their old results are gone, and a deadline that they had is lifted. Exit status: 0 all well;
    1 some could not be put back; 2 wrong usage; 3 there is no Redis, or it refuses.
    """
    from fetchq_worker.cli.actions.dead_letters import retry as command

    wanted = _wanted(status, host, tag, older_than, newer_than)
    start(command, job_ids or (), wanted, everything, redis_url=redis_url, queue=queue)


@app.command()
def purge(
    job_ids: Ids = None,
    status: Status = None,
    host: Host = None,
    tag: Tag = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    everything: Everything = False,
    redis_url: Redis = "redis://localhost:6379",
    queue: Queue = "arq:queue",
) -> None:
    """Throw dead letters away for good, by ID or many at once."""
    from fetchq_worker.cli.actions.dead_letters import purge as command

    wanted = _wanted(status, host, tag, older_than, newer_than)
    start(command, job_ids or (), wanted, everything, redis_url=redis_url, queue=queue)


def _wanted(
    status: str | None, host: str | None, tag: str | None, older_than: str | None, newer_than: str | None
) -> dict[str, str]:
    """The filters that were given, as they were typed."""
    given = {"status": status, "host": host, "tag": tag, "older_than": older_than, "newer_than": newer_than}
    return {name: text for name, text in given.items() if text is not None}
