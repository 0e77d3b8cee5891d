"""`fetchq acl`: prints the rights that Redis users of a queue need."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from fetchq.client.write.policy import Durability
from fetchq.command.exit_status import ExitStatus
from fetchq.command.streams import print_error
from fetchq.inspect.acl import acl_rule, waitaof_rule
from fetchq.store.registry import Role
from fetchq_worker.settings import Settings

_WITHOUT_WAITAOF: Final = (
    "Redis 7.0 has no WAITAOF and refuses the line that names it, but no other; there, and on Redis 7.4 and Valkey, "
    "fsync needs appendfsync always and the right +config|get, which shows passwords in the configuration too"
)


async def show_acl(roles: Sequence[str], user: str | None, durability: str, settings: Settings) -> ExitStatus:
    """Prints the `ACL SETUSER` commands of each role; with `user`, those of a user who has all of the roles."""
    chosen = [Role(role) for role in dict.fromkeys(roles)] or list(Role)
    level = Durability(durability)
    users = {f"fetchq-{role}": [role] for role in chosen} if user is None else {user: chosen}
    for name, its_roles in users.items():
        sys.stdout.write(f"{acl_rule(name, its_roles, settings.keys, level)}\n")
        if level is Durability.FSYNC and Role.PRODUCER in its_roles:
            sys.stdout.write(f"{waitaof_rule(name)}\n")
            print_error(_WITHOUT_WAITAOF)
    return ExitStatus.OK
