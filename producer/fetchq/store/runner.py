"""Runs scripts by their hash, or by their source if the server does not have it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from .scripts import locate_error, script_source

Argument = str | bytes | int

MAX_JOBS_A_CALL: Final = 1000
"""Lua's `unpack` fails at 8000 values, and a longer script would delay every other command."""

_FLAGS: Final = "#!lua flags=allow-oom\n"


class ScriptRunner(Protocol):
    """Runs scripts for the typed commands of `fetchq.store.commands`."""

    async def run(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        on_sent: Callable[[], None] | None = None,
    ) -> Any:
        """Returns the reply of the script of this name. Raises what redis-py raises.

        `on_sent` is called when the request is written, at the latest when the reply has arrived.
        """


class LoadedScript(NamedTuple):
    """The source of a script in the form that the server takes, and its hash."""

    source: bytes
    sha: str


class LoadedScripts(dict[str, LoadedScript]):
    """The scripts by name, each read on first use."""

    def __init__(self, redis: Redis) -> None:
        super().__init__()
        self._flags = takes_flags(redis)

    def __missing__(self, name: str) -> LoadedScript:
        text = script_source(name)
        if not self._flags and text.startswith(_FLAGS):
            text = "\n" + text.removeprefix(_FLAGS)  # lines keep their numbers, for `locate`
        source = text.encode()
        script = self[name] = LoadedScript(source, hashlib.sha1(source, usedforsecurity=False).hexdigest())
        return script


def takes_flags(redis: Redis) -> bool:
    """Whether the server reads flags from the first line of a script: every server except fakeredis."""
    bases = redis.connection_pool.connection_class.__mro__
    return not any(base.__module__.startswith("fakeredis.") for base in bases)


async def after_error(redis: Redis, script: str, error: ResponseError) -> None:
    """Adds the place in the script to an error. After READONLY, closes the idle connections.

    They lead to a server that has become a replica, though its name may lead to the new master by now.
    """
    if isinstance(error, ReadOnlyError):
        await redis.connection_pool.disconnect(inuse_connections=False)
    locate_error(script, error)


class ClientRunner:
    """Runs scripts on a redis-py client."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Final = redis
        self._execute: Final[Callable[..., Awaitable[Any]]] = redis.execute_command
        self._scripts: Final = LoadedScripts(redis)

    async def run(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        on_sent: Callable[[], None] | None = None,
    ) -> Any:
        source, sha = self._scripts[script]
        try:
            try:
                reply = await self._execute("EVALSHA", sha, len(keys), *keys, *args)
            except NoScriptError:
                reply = await self._execute("EVAL", source, len(keys), *keys, *args)
        except ResponseError as error:
            await after_error(self._redis, script, error)
            raise
        if on_sent is not None:
            on_sent()
        return reply
