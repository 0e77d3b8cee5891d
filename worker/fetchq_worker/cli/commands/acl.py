"""`fetchq acl`: its options. `cli.actions.acl` runs it."""

from __future__ import annotations

import click

from fetchq.command.command_line import CONTEXT
from fetchq.command.option_types import Choice, option

from .options import queue_options_without_redis
from .start import start


@click.command(context_settings=CONTEXT, short_help="Print the least rights of Redis users, as ACL commands.")
@click.argument(
    "roles", nargs=-1, type=Choice(["producer", "worker", "operator"]), metavar="[producer] [worker] [operator]"
)
@option(
    "--user", metavar="NAME", show_default="one user a role: fetchq-producer, ...", help="One user with all rights."
)
@option(
    "--durability",
    metavar="LEVEL",
    type=Choice(["memory", "fsync", "replicated"]),
    default="memory",
    show_default=True,
    help="Durability that producers ask for: memory, fsync or replicated.",
)
@queue_options_without_redis
def acl(roles: tuple[str, ...], user: str | None, durability: str) -> None:
    """Print ACL commands that give Redis users the rights of a producer, worker or operator, and no others."""
    from fetchq_worker.cli.actions.acl import show_acl as command

    start(command, roles, user, durability)
