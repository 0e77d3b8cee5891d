"""`fetchq acl`: prints the rights that Redis users of a queue need."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fetchq.client.write_policy import Durability
from fetchq.inspect.acl import acl_rule
from fetchq.store.registry import Role
from fetchq_worker.cli.terminal.exit_status import CommandFailed, ExitStatus
from fetchq_worker.settings import Settings


async def show_acl(roles: Sequence[str], user: str | None, durability: str, settings: Settings) -> ExitStatus:
    """Prints an `ACL SETUSER` command for each role; with `user`, one for a user who has all of the roles."""
    try:
        chosen = [Role(role) for role in dict.fromkeys(roles)] or list(Role)
    except ValueError as problem:
        raise CommandFailed(f"a role is one of {', '.join(Role)}", ExitStatus.USAGE) from problem
    if durability not in set(Durability):
        raise CommandFailed(f"--durability takes one of {', '.join(Durability)}", ExitStatus.USAGE)
    level = Durability(durability)
    if user is not None:
        sys.stdout.write(f"{acl_rule(user, chosen, settings.keys, level)}\n")
    else:
        sys.stdout.writelines(f"{acl_rule(f'fetchq-{role}', [role], settings.keys, level)}\n" for role in chosen)
    return ExitStatus.OK
