"""Which keys each Lua script uses, and which role may run it. The scripts' KEYS and the ACL rules are made from
this."""

from __future__ import annotations

from enum import Flag, StrEnum
from typing import Final

import msgspec

from .keys import Keys


class Role(StrEnum):
    """The purpose of a Redis user. One user can have several roles."""

    PRODUCER = "producer"
    """Enqueues jobs, reads their results, cancels them."""
    WORKER = "worker"
    """Runs jobs and reads the state of the queue."""
    OPERATOR = "operator"
    """Manages dead letters, limits of hosts and pauses, and reads the state of the queue."""


class Access(Flag):
    """How a key is used."""

    READ = 1
    WRITE = 2
    BOTH = 3


R, W, RW = Access.READ, Access.WRITE, Access.BOTH


class ScriptSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One script. Keys are named by the properties of `Keys`."""

    roles: frozenset[Role]
    """The roles whose Redis users may run it."""
    keys: tuple[str, ...]
    """KEYS, in the order of the script. Redis requires permission to read and write each of them."""
    prefixes: dict[str, Access] = {}
    """Keys in ARGV, most of them prefixes to which the script appends a job id, a limit key or a minute."""
    channels: tuple[str, ...] = ()
    """Channel prefixes in ARGV, to which it publishes."""
    allow_oom: bool = False
    """Whether it may run while Redis is over its maxmemory. Its first line is then `#!lua flags=allow-oom`."""
    read_only: bool = False
    """Whether it only reads, so that it also runs while Redis refuses writes: on a replica, with a full disk, over its
    maxmemory. Its first line is then `#!lua flags=no-writes`."""

    @property
    def access(self) -> dict[str, Access]:
        """All keys that it uses, in KEYS or by prefix."""
        return dict.fromkeys(self.keys, RW) | self.prefixes


_FRONTIER: Final = ("hosts", "limits", "due_hosts", "backlog", "cooldowns", "running")
"""The keys that hold limit keys. Every script that changes the waiting or running jobs of one takes all of them."""
_FIGURES: Final = {"metrics": RW, "minute": RW}
"""The figures of the queue. They are not among KEYS: without permission for them a script does all but count."""
_LEASED: Final = ("pending", "leases", "lease_ends")

_PRODUCER, _WORKER, _OPERATOR = (frozenset({role}) for role in Role)

SCRIPTS: Final[dict[str, ScriptSpec]] = {
    "jobs/enqueue": ScriptSpec(
        roles=_PRODUCER,
        keys=("pending", "wake", *_FRONTIER),
        prefixes={"job": RW, "result": R, "waiting": RW, **_FIGURES},
    ),
    "jobs/cancel": ScriptSpec(
        roles=_PRODUCER,
        keys=("pending", "abort", "leases", *_FRONTIER, "wake"),
        prefixes={"job": RW, "result": RW, "in_progress": R, "retry": W, "attempts": W, "waiting": RW, **_FIGURES},
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
            **_FIGURES,
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
        prefixes={"job": RW, "result": W, "retry": W, "attempts": W, "dead_letter": RW, "waiting": RW, **_FIGURES},
    ),
    "dead_letters/trim": ScriptSpec(
        roles=_WORKER, keys=("dead",), prefixes={"dead_letter": W}, allow_oom=True
    ),
    "queue/state": ScriptSpec(
        roles=_WORKER | _OPERATOR,
        keys=("pending", *_FRONTIER),
        prefixes=dict.fromkeys(("lease_ends", "leases", "dead", "paused", "workers", "worker"), R),
        read_only=True,
    ),
    "workers/heartbeat": ScriptSpec(  # the second key is `Keys.worker` + the worker's id
        roles=_WORKER, keys=("workers", "worker"), prefixes={**_FIGURES, "worker_report": RW}, allow_oom=True
    ),
    "workers/pass_wake": ScriptSpec(roles=_WORKER, keys=("pending", "wake"), allow_oom=True),
    "cache/put": ScriptSpec(  # the first key is that of the value, with the prefix `cache` or `robots`
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
