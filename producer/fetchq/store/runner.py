"""Runs scripts by their hash, or by their source if the server does not have it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, Self

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from .exchange import Exchanges, packed, ready_connection
from .scripts import locate_error, script_source

Argument = str | bytes | int

MAX_JOBS_A_CALL: Final = 1000
"""Lua's `unpack` fails at 8000 values, and a longer script would delay every other command."""

_FLAGS: Final = "#!lua "


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
            text = "\n" + text.partition("\n")[2]  # lines keep their numbers, for `locate`
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
    """Runs scripts on a redis-py client, with hiredis to pack the commands wherever that is possible."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Final = redis
        self._execute: Final[Callable[..., Awaitable[Any]]] = redis.execute_command
        self._packs: Final = _executes_as_redis_py(redis)
        self._exchanges: Final = Exchanges()
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
                reply = await self._call("EVALSHA", sha, len(keys), *keys, *args)
            except NoScriptError:
                reply = await self._call("EVAL", source, len(keys), *keys, *args)
        except ResponseError as error:
            await after_error(self._redis, script, error)
            raise
        if on_sent is not None:
            on_sent()
        return reply

    async def _call(self, *command: Argument) -> Any:
        """As `Redis.execute_command`, which connects, and which repeats the command if the client is set up so."""
        pool = self._redis.connection_pool
        connection = ready_connection(pool) if self._packs else None
        if connection is None:
            return await self._execute(*command)
        try:
            return await self._exchanges.run(connection, packed(*command))
        finally:
            await pool.release(connection)


def _executes_as_redis_py(redis: Redis) -> bool:
    """Whether `execute_command` is redis-py's own, neither overridden nor wrapped by an instrumentation.

    A client whose commands all use one connection takes turns on it, which only `execute_command` does.
    """
    own = getattr(redis.execute_command, "__func__", None) is Redis.execute_command
    encoding = redis.connection_pool.connection_kwargs.get("encoding", "utf-8")
    return own and not redis.single_connection_client and encoding == "utf-8"


class PackedRunner:
    """Runs scripts, each within `timeout_s`.

    Raises `TimeoutError` after that, and drops the connection; otherwise raises what redis-py raises.
    """

    def __init__(self, redis: Redis, *, timeout_s: float) -> None:
        self._redis: Final = redis
        self._timeout_s: Final = timeout_s
        self._scripts: Final = LoadedScripts(redis)
        self._exchanges: Final = Exchanges()

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
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._exchange(packed("EVALSHA", sha, len(keys), *keys, *args), on_sent)
                except NoScriptError:
                    return await self._exchange(packed("EVAL", source, len(keys), *keys, *args), on_sent)
        except ResponseError as error:
            await after_error(self._redis, script, error)
            raise

    async def _exchange(self, command: bytes, on_sent: Callable[[], None] | None) -> Any:
        """As `Redis.execute_command`, which does not report when it has sent a command."""
        pool = self._redis.connection_pool
        connection = ready = ready_connection(pool)
        if connection is None:
            connection = await pool.get_connection()
        try:
            if ready is not None:
                return await self._exchanges.run(ready, command, on_sent)
            return await connection.retry.call_with_retry(
                partial(_send_and_read, connection, command, on_sent),
                lambda error: self._redis._disconnect_raise(connection, error),
            )
        finally:
            await pool.release(connection)


async def _send_and_read(connection: Any, command: bytes, on_sent: Callable[[], None] | None) -> Any:
    await connection.send_packed_command(command)
    if on_sent is not None:
        on_sent()
    return await connection.read_response()


class ScriptRunners(NamedTuple):
    """The two runners of a worker, which differ in their timeouts."""

    jobs: ScriptRunner
    heartbeat: ScriptRunner
    """For the calls that renew leases: its timeout leaves time for a second call before a lease ends."""

    @classmethod
    def on(cls, redis: Redis, *, timeout_s: float, heartbeat_timeout_s: float) -> Self:
        return cls(PackedRunner(redis, timeout_s=timeout_s), PackedRunner(redis, timeout_s=heartbeat_timeout_s))
