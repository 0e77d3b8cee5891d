"""`fetchq acl`: its options. `cli.actions.acl` runs it."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Where, queue_options_without_redis
from .start import start

app = typer.Typer(rich_markup_mode=None)


@app.command()
@queue_options_without_redis
def acl(
    roles: Annotated[list[str] | None, typer.Argument(metavar="[producer] [worker] [operator]", hidden=True)] = None,
    user: Annotated[
        str | None,
        typer.Option(
            "--user",
            metavar="NAME",
            help="One Redis user with all of the rights.",
            show_default="one user a role: fetchq-producer, ...",
        ),
    ] = None,
    durability: Annotated[
        str,
        typer.Option(
            "--durability", metavar="LEVEL", help="Durability that producers ask for: memory, fsync, replicated."
        ),
    ] = "memory",
    *,
    where: Where,
) -> None:
    """Print ACL commands that give Redis users the rights of a producer, worker or operator, and no others."""
    from fetchq_worker.cli.actions.acl import show_acl as command

    start(command, roles or (), user, durability, **where)
