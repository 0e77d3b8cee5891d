"""The engine's Lua scripts, each in a file of its own under `lua/`, and how they are called."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Self

import hiredis
from redis._parsers import _AsyncHiredisParser
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .scripts import locate_error, script_source

REDIS_ERRORS: Final = (RedisError, OSError)
"""What a call can raise when Redis is away, full, or says no. The command may have been carried out or not."""

MAX_JOBS_A_CALL: Final = 1000
"""Lua's `unpack` gives up at 8000 values, and a longer script would hold up everybody else's commands."""

_FLAGS: Final = "#!lua flags=allow-oom\n"
"""Redis 7 reads flags from a script's first line; older servers and fakeredis take the line for broken Lua."""


def _packed(*args: str | bytes | int) -> bytes:
    packed: bytes = hiredis.pack_command(args)  # type: ignore[arg-type]  # its stub knows a tuple of one only
    return packed


class Script:
    """One script: sent by its hash, and whole where the server does not know it (yet, or after SCRIPT FLUSH).

    A call that takes longer than `timeout_s` is given up, and its connection with it: a `TimeoutError`.
    """

    def __init__(self, redis: Redis, name: str, *, flags: bool, timeout_s: float) -> None:
        source = script_source(name)
        if not flags and source.startswith(_FLAGS):
            source = "\n" + source.removeprefix(_FLAGS)  # lines keep their numbers, for `locate`
        self._name: Final = name
        self._redis = redis
        self._source: Final = source.encode()
        self._sha: Final = hashlib.sha1(self._source, usedforsecurity=False).hexdigest()
        self._timeout_s: Final = timeout_s

    async def __call__(
        self, keys: Sequence[str], args: Sequence[str | bytes | int], *, on_sent: Callable[[], None] | None = None
    ) -> Any:
        """Calls the script. `on_sent` is called when the request is on its way, and Redis at work on it."""
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._exchange(_packed("EVALSHA", self._sha, len(keys), *keys, *args), on_sent)
                except NoScriptError:
                    return await self._exchange(_packed("EVAL", self._source, len(keys), *keys, *args), on_sent)
        except ResponseError as error:
            locate_error(self._name, error)
            raise

    async def _exchange(self, command: bytes, on_sent: Callable[[], None] | None) -> Any:
        """What `Redis.execute_command` does, with a command that is packed already.

        redis-py's asyncio client packs in Python, piece by piece; that was a tenth of all the work of an empty job.
        """
        redis = self._redis
        pool = redis.connection_pool
        connection = _ready_connection(pool) or await pool.get_connection()

        async def once() -> Any:
            await connection.send_packed_command(command)
            if on_sent is not None:
                on_sent()
            return await connection.read_response()

        try:
            return await connection.retry.call_with_retry(
                once, lambda error: redis._disconnect_raise(connection, error)
            )
        finally:
            await pool.release(connection)


async def takes_flags(redis: Redis, timeout_s: float) -> bool:
    """Whether the server knows flags in a script's first line (Redis 7)."""
    try:
        async with asyncio.timeout(timeout_s):
            execute: Callable[..., Awaitable[Any]] = redis.execute_command
            await execute("EVAL", f"{_FLAGS}return 1", 0)
    except TimeoutError as problem:
        raise RedisTimeoutError(f"no answer within {timeout_s:g} s") from problem
    except ResponseError:
        return False
    return True


def _ready_connection(pool: Any) -> Any:
    """One that waits in the pool, open and with nothing to read; None: the pool is to find or mend one.

    The pool's own look at it is a read that times out. That takes a turn of the loop, and with jobs to run the turn may
    be a long one, in which Redis has nothing to do. (redis-py types none of what is asked here.)
    """
    if not pool._available_connections:
        return None
    last = pool._available_connections[-1]
    stream, parser = last._reader, last._parser
    if not (isinstance(last._reader, asyncio.StreamReader) and isinstance(last._parser, _AsyncHiredisParser)):
        return None
    if not last.is_connected or stream.at_eof() or stream.exception() is not None:
        return None
    if stream._buffer or parser._reader is None or parser._reader.has_data():
        return None
    return pool.get_available_connection()


class Scripts:
    """All scripts of the engine, as one server takes them."""

    def __init__(
        self, redis: Redis, *, flags: bool, timeout_s: float, heartbeat_timeout_s: float | None = None
    ) -> None:
        heartbeat_timeout_s = timeout_s if heartbeat_timeout_s is None else heartbeat_timeout_s

        def script(name: str, timeout_s: float = timeout_s) -> Script:
            return Script(redis, name, flags=flags, timeout_s=timeout_s)

        self.claim: Final = script("jobs/claim")
        self.admit: Final = script("jobs/admit")
        self.give_back: Final = script("jobs/return_claims")
        self.commit: Final = script("jobs/commit")
        self.renew: Final = script("jobs/renew", heartbeat_timeout_s)
        self.aborts: Final = script("jobs/find_aborts", heartbeat_timeout_s)
        self.keep: Final = script("jobs/maintain", heartbeat_timeout_s)
        self.trim_dead: Final = script("dead_letters/trim", heartbeat_timeout_s)
        self.presence: Final = script("workers/heartbeat", heartbeat_timeout_s)
        self.pass_wake: Final = script("workers/pass_wake", heartbeat_timeout_s)

    @classmethod
    async def open(cls, redis: Redis, *, timeout_s: float, heartbeat_timeout_s: float | None = None) -> Self:
        """The scripts, with their flags where the server knows flags (Redis 7).

        `heartbeat_timeout_s` is for those that keep leases alive: a second try must fit before a lease ends.
        """
        flags = await takes_flags(redis, timeout_s)
        return cls(redis, flags=flags, timeout_s=timeout_s, heartbeat_timeout_s=heartbeat_timeout_s)
