"""The least that a Redis user needs, by what it is for: `ACL SETUSER` rules (Redis 7 and later).

Keys are taken from `fetchq.store.keys`, and the commands inside scripts from the scripts themselves, since Redis
checks each of them for the user who calls the script. What Python code sends is listed here, and
`tests/producer/inspect/test_acl.py` runs all of it under these rules and looks for what is refused or never used.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from fetchq import InvalidRequest
from fetchq.client.write_policy import Durability
from fetchq.store.keys import Keys
from fetchq.store.scripts import script_names, script_source


class Role(StrEnum):
    """What a Redis user is for. Roles add up."""

    PRODUCER = "producer"
    """Puts jobs on the queue, reads their results, cancels them."""
    WORKER = "worker"
    """Runs the jobs, and shows how the queue stands."""
    OPERATOR = "operator"
    """Looks after dead letters, limits of hosts and pauses."""


class Access(StrEnum):
    """What may be done to a key, as a rule writes it."""

    READ = "%R~"
    WRITE = "%W~"
    BOTH = "~"


class _Rights(msgspec.Struct, frozen=True):
    commands: frozenset[str]
    """What Python code sends; those of the scripts come on top."""
    scripts: tuple[str, ...]
    """Which scripts are called: patterns of their names."""
    keys: dict[str, Access]
    """By name in `Keys`."""
    channels: tuple[str, ...]


_CHANNELS: Final = ("done",)
"""Names in `Keys` that are channels."""
_ALL_KEYS: Final = tuple(
    name
    for name, value in vars(Keys).items()
    if isinstance(value, property) and isinstance(getattr(Keys(), name), str) and name not in _CHANNELS
)
_TALK: Final = frozenset({"ping", "select", "evalsha", "script|load", "time"})

_FRONTIER: Final = dict.fromkeys(
    ("hosts", "limits", "due_hosts", "backlog", "cooldowns", "running", "waiting"), Access.BOTH
)  # what every script takes that has to know whose turn it is

RIGHTS: Final = {
    Role.PRODUCER: _Rights(
        # INFO, here and below, is the one command that Redis calls dangerous: it tells of the whole server. Without it
        # a producer cannot see that memory runs short before it has, nor a worker refuse a server that drops jobs then.
        commands=_TALK
        | {"info", "multi", "exec", "exists", "mget", "subscribe", "unsubscribe"}
        | {"unlink", "zcard", "zmscore", "zrange", "zrangebyscore", "zscan", "zscore"},
        scripts=("jobs/enqueue", "jobs/cancel"),
        keys={
            "pending": Access.BOTH,
            "job": Access.BOTH,
            "result": Access.BOTH,  # it writes those of the jobs that it cancels
            "in_progress": Access.READ,
            "retry": Access.WRITE,
            "attempts": Access.WRITE,
            "abort": Access.BOTH,
            "leases": Access.BOTH,
            "wake": Access.BOTH,
            **_FRONTIER,
        },
        channels=_CHANNELS,
    ),
    Role.WORKER: _Rights(
        commands=_TALK
        | {"info", "dbsize"}
        | {"eval", "multi", "exec"}
        | {"blpop", "zcard", "zrem", "del", "get", "set", "setex"}  # at work
        | {"psetex"}  # arq's health check
        | {"watch", "unwatch", "exists", "zadd"}  # arq's enqueue_job, for cron jobs and out of coroutines
        | {"zcount", "hlen", "zrange", "mget", "zrevrange", "hscan", "hmget"},  # `status`, `worker --check`
        scripts=("jobs/[!ec]*", "jobs/c[lo]*", "workers/*", "cache/*", "dead_letters/trim", "hosts/cooldown"),
        keys=dict.fromkeys(_ALL_KEYS, Access.BOTH),
        channels=_CHANNELS,
    ),
    Role.OPERATOR: _Rights(
        commands=_TALK
        | {"zcard", "zmscore", "zrangebyscore", "zrevrangebyscore"}  # dead letters
        | {"hgetall", "hmget", "hscan", "zrevrange", "zscan"}  # limits and hosts
        | {"multi", "exec", "set", "del", "rpush", "ltrim"},  # pause and resume
        scripts=("dead_letters/[!t]*", "hosts/set_limits"),
        keys={
            "dead": Access.BOTH,
            "dead_letter": Access.BOTH,
            "pending": Access.BOTH,
            "job": Access.BOTH,
            "result": Access.BOTH,
            "retry": Access.WRITE,
            "attempts": Access.WRITE,
            "wake": Access.BOTH,
            "paused": Access.BOTH,
            **_FRONTIER,
        },
        channels=(),
    ),
}

DURABLE: Final = {
    Durability.MEMORY: frozenset[str](),
    Durability.FSYNC: frozenset({"eval", "set", "waitaof"}),
    Durability.REPLICATED: frozenset({"eval", "set", "wait"}),
}
"""What a producer sends besides where its writes are to be durable. WAITAOF is of Redis 7.2; before, `fsync` reads the
server's settings, by CONFIG GET, which no rule of ours gives."""

_CALL: Final = re.compile(r"redis\.p?call\(([^,)]+)")
_COMMAND: Final = re.compile(r"'([A-Z]+)'")
_NOT_IN_A_RULE: Final = re.compile(r"[\s\"'\x00-\x1f\x7f]")
"""What neither a pattern nor a line of redis-cli can hold; `?` in a pattern stands for any one character."""


def acl_rule(user: str, roles: Collection[Role], keys: Keys, durability: Durability = Durability.MEMORY) -> str:
    """The command that gives `user` the rights of `roles` on one queue, and takes all others from it.

    Its passwords stay as they are; a new user has none, and so cannot log in yet. Raises `InvalidRequest`.
    """
    if not user or _NOT_IN_A_RULE.search(user):
        raise InvalidRequest("user", "takes a name without blanks and quotes")
    rights = [RIGHTS[role] for role in sorted(roles)]
    commands = {command for role in roles for command in RIGHTS[role].commands | script_commands(role)}
    wanted: dict[str, set[Access]] = {}
    if Role.PRODUCER in roles and durability is not Durability.MEMORY:
        commands |= DURABLE[durability]
        wanted["durability_marker"] = {Access.BOTH}
    for one in rights:
        for name, access in one.keys.items():
            wanted.setdefault(name, set()).add(access)
    patterns = [
        f"{access.pop() if len(access) == 1 else Access.BOTH}{_pattern(keys, name)}" for name, access in wanted.items()
    ]
    channels = sorted({f"&{_pattern(keys, name)}" for one in rights for name in one.channels})
    rule = ["on", "clearselectors", "resetkeys", *patterns, "resetchannels", *channels]
    return " ".join(["ACL SETUSER", user, *rule, "-@all", *(f"+{command}" for command in sorted(commands))])


def script_commands(role: Role) -> frozenset[str]:
    """The commands that the Lua scripts of a role call."""
    return frozenset(
        command.lower()
        for pattern in RIGHTS[role].scripts
        for name in script_names()
        if fnmatchcase(name, pattern)
        for first_argument in _CALL.findall(script_source(name))
        for command in _COMMAND.findall(first_argument)
    )


def _pattern(keys: Keys, name: str) -> str:
    """A key's name with its own glob characters taken literally, and what follows a prefix left open."""
    literal = re.sub(r"([\\*?\[])", r"\\\1", getattr(keys, name))
    is_prefix = getattr(Keys(), name).endswith(":")
    return _NOT_IN_A_RULE.sub("?", literal) + ("*" if is_prefix else "")
