"""What each Lua script may touch, and who may run it. The scripts' KEYS and the ACL rules come from here."""

from __future__ import annotations

from enum import Flag, StrEnum
from typing import Final

import msgspec

from .keys import Keys


class Role(StrEnum):
    """What a Redis user is for. One user can have several roles."""

    PRODUCER = "producer"
    """Enqueues jobs, reads their results, cancels them."""
    WORKER = "worker"
    """Runs jobs and reads the state of the queue."""
    OPERATOR = "operator"
    """Manages dead letters, limits of hosts and pauses."""


class Access(Flag):
    """What is done to a key."""

    READ = 1
    WRITE = 2
    BOTH = 3


R, W, RW = Access.READ, Access.WRITE, Access.BOTH


class ScriptSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One script. Keys are named by the properties of `Keys`."""

    roles: frozenset[Role]
    """Whose Redis users run it."""
    keys: tuple[str, ...]
    """KEYS, in the order in which the script takes them. Redis asks for the right to read and write each of them."""
    prefixes: dict[str, Access] = {}
    """Prefixes in ARGV: the script appends a job id or a limit key."""
    channels: tuple[str, ...] = ()
    """Prefixes in ARGV of the channels that it publishes to."""
    allow_oom: bool = False
    """Whether it runs while Redis is over its maxmemory: its first line is then `#!lua flags=allow-oom`."""

    @property
    def access(self) -> dict[str, Access]:
        """Everything that it touches, whether named in KEYS or by a prefix."""
        return dict.fromkeys(self.keys, RW) | self.prefixes


_FRONTIER: Final = ("hosts", "limits", "due_hosts", "backlog", "cooldowns", "running")
"""The keys of limit keys, together in every script that changes what one has waiting or running."""
_LEASED: Final = ("pending", "leases", "lease_ends")

_PRODUCER, _WORKER, _OPERATOR = (frozenset({role}) for role in Role)

SCRIPTS: Final[dict[str, ScriptSpec]] = {
    "jobs/enqueue": ScriptSpec(
        roles=_PRODUCER,
        keys=("pending", "wake", *_FRONTIER),
        prefixes={"job": RW, "result": R, "waiting": RW},
    ),
    "jobs/cancel": ScriptSpec(
        roles=_PRODUCER,
        keys=("pending", "abort", "leases", *_FRONTIER, "wake"),
        prefixes={"job": RW, "result": RW, "in_progress": R, "retry": W, "attempts": W, "waiting": RW},
        channels=("done",),
    ),
    "jobs/claim": ScriptSpec(
        roles=_WORKER,
        keys=(*_LEASED, "abort", "wake", "paused", *_FRONTIER),
        prefixes={"job": RW, "retry": RW, "in_progress": RW, "waiting": RW},
        allow_oom=True,
    ),
    "jobs/admit": ScriptSpec(
        roles=_WORKER,
        keys=(*_LEASED, "wake", *_FRONTIER),
        prefixes={"job": W, "retry": RW, "in_progress": W, "waiting": RW},
        allow_oom=True,
    ),
    "jobs/return_claims": ScriptSpec(
        roles=_WORKER,
        keys=(*_LEASED, "wake", *_FRONTIER),
        prefixes={"job": W, "retry": RW, "in_progress": RW, "waiting": RW},
        allow_oom=True,
    ),
    "jobs/commit": ScriptSpec(
        roles=_WORKER,
        keys=(*_LEASED, "abort", "wake", *_FRONTIER, "dead"),
        prefixes={
            "job": RW, "retry": RW, "in_progress": RW, "result": RW, "attempts": W, "waiting": RW, "dead_letter": W,
        },
        channels=("done",),
        allow_oom=True,
    ),
    "jobs/renew": ScriptSpec(
        roles=_WORKER,
        keys=(*_LEASED, *_FRONTIER),
        prefixes={"in_progress": RW, "waiting": RW, "retry": RW},
        allow_oom=True,
    ),
    "jobs/find_aborts": ScriptSpec(
        roles=_WORKER,
        keys=("abort", "pending", "leases"),
        prefixes={"job": R, "in_progress": R},
        allow_oom=True,
    ),
    "jobs/maintain": ScriptSpec(
        roles=_WORKER,
        keys=(*_LEASED, "maintenance_cursor", *_FRONTIER),
        prefixes={"job": RW, "waiting": RW},
        allow_oom=True,
    ),
    "dead_letters/read": ScriptSpec(roles=_OPERATOR, keys=("dead",), prefixes={"dead_letter": R}),
    "dead_letters/purge": ScriptSpec(roles=_OPERATOR, keys=("dead",), prefixes={"dead_letter": W}),
    "dead_letters/retry": ScriptSpec(
        roles=_OPERATOR,
        keys=("pending", "dead", "wake", *_FRONTIER),
        prefixes={"job": RW, "result": W, "retry": W, "attempts": W, "dead_letter": RW, "waiting": RW},
    ),
    "dead_letters/trim": ScriptSpec(
        roles=_WORKER, keys=("dead",), prefixes={"dead_letter": W}, allow_oom=True
    ),
    "workers/heartbeat": ScriptSpec(  # the second key is `worker` and the worker's id
        roles=_WORKER, keys=("workers", "worker"), allow_oom=True
    ),
    "workers/pass_wake": ScriptSpec(roles=_WORKER, keys=("pending", "wake"), allow_oom=True),
    "cache/put": ScriptSpec(  # the first key is the value's own, below `cache` or `robots`
        roles=_WORKER, keys=("cache", "shared_cache", "shared_cache_sizes"), prefixes={"robots": W}
    ),
    "hosts/cooldown": ScriptSpec(
        roles=_WORKER, keys=("pending", "wake", *_FRONTIER), prefixes={"waiting": RW}, allow_oom=True
    ),
    "hosts/set_limits": ScriptSpec(
        roles=_OPERATOR,
        keys=("pending", "wake", *_FRONTIER),
        prefixes={"waiting": RW},
    ),
}  # fmt: skip


def key_names(script: str, keys: Keys) -> tuple[str, ...]:
    """KEYS of a script for one queue."""
    return tuple(getattr(keys, name) for name in SCRIPTS[script].keys)
