"""`fetchq acl`: its options. What it does stands in `acl`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Queue
from .start import start

app = typer.Typer(rich_markup_mode=None)


@app.command()
def acl(
    roles: Annotated[list[str] | None, typer.Argument(metavar="[producer] [worker] [operator]", hidden=True)] = None,
    user: Annotated[
        str | None,
        typer.Option(
            "--user",
            metavar="NAME",
            help="One Redis user with all of these rights.",
            show_default="one a role: fetchq-producer, ...",
        ),
    ] = None,
    namespace: Annotated[
        str, typer.Option("--namespace", metavar="TEXT", help="What stands in front of every key name.")
    ] = "",
    durability: Annotated[
        str,
        typer.Option("--durability", metavar="LEVEL", help="What producers ask of their writes: fsync, replicated."),
    ] = "memory",
    queue: Queue = "arq:queue",
) -> None:
    """Print the least rights that Redis users need as producer, worker or operator, as ACL commands for redis-cli."""
    from fetchq_worker.cli.actions.acl import show_acl as command

    start(command, roles or (), user, namespace, durability, queue=queue)
