"""The least permissions of a Redis user, by role, as `ACL SETUSER` rules.

What scripts touch comes from `fetchq.store.registry`, and the commands in them from their source: Redis checks each
command of a script for the user who runs it. What Python code sends is listed here.
`tests/producer/inspect/test_acl.py` runs all of it under these rules, and fails for what is refused or never used.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

import msgspec

from fetchq.client.write.policy import Durability
from fetchq.errors import InvalidRequest
from fetchq.store.keys import Keys
from fetchq.store.registry import SCRIPTS, Access, Role
from fetchq.store.scripts import script_source


class Rights(msgspec.Struct, frozen=True):
    """What the Python code of a role sends. The rights that its scripts need are computed from the registry."""

    commands: frozenset[str]
    keys: dict[str, Access]
    """By property of `Keys`."""
    channels: tuple[str, ...] = ()


R, W, RW = Access.READ, Access.WRITE, Access.BOTH
_ANY_ROLE: Final = frozenset({"ping", "select", "evalsha", "eval", "time"})

RIGHTS: Final = {
    Role.PRODUCER: Rights(
        # INFO, here and below, is the only command that Redis classes as dangerous: it describes the whole server.
        # Without it a producer cannot detect that memory runs short, and a worker cannot refuse a server that evicts
        # jobs.
        _ANY_ROLE
        | {"info", "multi", "exec", "exists", "mget", "subscribe", "unsubscribe"}
        | {"unlink", "zcard", "zmscore", "zrange", "zrangebyscore", "zscan", "zscore"},
        {"pending": R, "job": R, "result": RW, "in_progress": R, "waiting": R},
        channels=("done",),
    ),
    Role.WORKER: Rights(
        _ANY_ROLE
        | {"info", "dbsize"}
        | {"multi", "exec"}
        | {"blpop", "zcard", "zrem", "del", "get", "set", "setex"}  # claims, presence, attempts, shared cache
        | {"psetex"}  # arq's health check
        | {"watch", "unwatch", "exists", "zadd"}  # arq's enqueue_job, for cron jobs and in coroutines
        | {"hgetall", "zrevrange", "hscan", "hmget", "hget", "hset", "hdel"},  # figures, hosts, limits
        {
            **dict.fromkeys(("pending", "job", "result", "in_progress", "retry", "abort", "health", "attempts"), RW),
            **dict.fromkeys(("robots", "cache", "worker", "workers", "limits", "wake"), RW),
            **dict.fromkeys(("hosts", "backlog", "cooldowns", "running", "metrics", "minute"), R),
        },
        channels=("done",),
    ),
    Role.OPERATOR: Rights(
        _ANY_ROLE
        | {"zcard", "zmscore", "zrangebyscore", "zrevrangebyscore"}  # dead letters
        | {"hgetall", "hmget", "hscan", "zrevrange", "zscan"}  # limits, hosts and figures
        | {"multi", "exec", "set", "del", "rpush", "ltrim"},  # pause and resume
        {
            **dict.fromkeys(("dead", "limits", "hosts", "backlog", "cooldowns", "running"), R),
            **dict.fromkeys(("pending", "metrics", "minute"), R),
            **dict.fromkeys(("paused", "wake"), RW),
        },
    ),
}

DURABLE: Final = {
    Durability.MEMORY: frozenset[str](),
    Durability.FSYNC: frozenset({"set"}),
    Durability.REPLICATED: frozenset({"set", "wait"}),
}
"""What a producer also sends to confirm that its writes are durable, on every server. `waitaof_rule` has the rest."""

_PREFIX: Final = {R: "%R~", W: "%W~", RW: "~"}
_CALL: Final = re.compile(r"redis\.p?call\(([^,)]+)")
_COMMAND: Final = re.compile(r"'([A-Z]+)'")
_NOT_IN_A_RULE: Final = re.compile(r"[\s\"'\x00-\x1f\x7f]")
"""Characters that a pattern and a line of redis-cli cannot hold. `?` in a pattern matches any one character."""


def acl_rule(user: str, roles: Collection[Role], keys: Keys, durability: Durability = Durability.MEMORY) -> str:
    """The command that gives `user` the rights of `roles` on one queue, and removes all others.

    Passwords of the user are kept. A new user has none, and cannot log in yet. Raises `InvalidRequest`.
    """
    if not user or _NOT_IN_A_RULE.search(user):
        raise InvalidRequest("user", "takes a name without blanks and quotes")
    commands = {command for role in roles for command in RIGHTS[role].commands | script_commands(role)}
    access: dict[str, Access] = {}
    for role in sorted(roles):
        for name, granted in key_access(role).items():
            access[name] = access.get(name, granted) | granted
    if Role.PRODUCER in roles and durability is not Durability.MEMORY:
        commands |= DURABLE[durability]
        access["durability_marker"] = RW
    patterns = [key_pattern(keys, name, granted) for name, granted in access.items()]
    channels = sorted({f"&{_pattern(keys, name)}" for role in roles for name in channel_names(role)})
    rule = ["on", "clearselectors", "resetkeys", *patterns, "resetchannels", *channels]
    return " ".join(["ACL SETUSER", user, *rule, "-@all", *(f"+{command}" for command in sorted(commands))])


def waitaof_rule(user: str) -> str:
    """The command that lets `user` send WAITAOF, by which `fsync` waits for the disk.

    It is a command of its own, since a server without WAITAOF, such as Redis 7.0, refuses a whole rule that names it.
    On such a server `fsync` reads the settings by CONFIG GET, which also shows passwords and which no rule here grants.
    """
    return f"ACL SETUSER {user} +waitaof"


def key_access(role: Role) -> dict[str, Access]:
    """What a role does to each key, in Python code and in scripts."""
    access = dict(RIGHTS[role].keys)
    for script in SCRIPTS.values():
        if role in script.roles:
            for name, granted in script.access.items():
                access[name] = access.get(name, granted) | granted
    return access


def channel_names(role: Role) -> frozenset[str]:
    """The channels that a role publishes and subscribes to."""
    scripts = (script for script in SCRIPTS.values() if role in script.roles)
    return frozenset(RIGHTS[role].channels).union(*(script.channels for script in scripts))


def script_commands(role: Role) -> frozenset[str]:
    """The commands in the scripts of a role."""
    return frozenset().union(*(commands_of(name) for name, script in SCRIPTS.items() if role in script.roles))


def commands_of(script: str) -> frozenset[str]:
    """The commands in a script."""
    calls = _CALL.findall(script_source(script))
    return frozenset(command.lower() for argument in calls for command in _COMMAND.findall(argument))


def key_pattern(keys: Keys, name: str, access: Access) -> str:
    """The part of a rule that grants access to a key, or to all keys with a prefix."""
    return f"{_PREFIX[access]}{_pattern(keys, name)}"


def _pattern(keys: Keys, name: str) -> str:
    """A key name as a pattern: its own glob characters are escaped, and a prefix ends in `*`."""
    literal = re.sub(r"([\\*?\[])", r"\\\1", getattr(keys, name))
    is_prefix = getattr(Keys(), name).endswith(":")
    return _NOT_IN_A_RULE.sub("?", literal) + ("*" if is_prefix else "")
