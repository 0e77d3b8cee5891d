"""Runs scripts for the engine with less CPU time than redis-py: hiredis packs the commands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Self

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from .runner import Argument, LoadedScripts, ScriptRunner, after_error, packed, ready_connection


class PackedRunner:
    """Runs scripts, each within `timeout_s`.

    Raises `TimeoutError` after that, and drops the connection; otherwise raises what redis-py raises.
    """

    def __init__(self, redis: Redis, *, timeout_s: float) -> None:
        self._redis: Final = redis
        self._timeout_s: Final = timeout_s
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
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._exchange(packed("EVALSHA", sha, len(keys), *keys, *args), on_sent)
                except NoScriptError:
                    return await self._exchange(packed("EVAL", source, len(keys), *keys, *args), on_sent)
        except ResponseError as error:
            await after_error(self._redis, script, error)
            raise

    async def _exchange(self, command: bytes, on_sent: Callable[[], None] | None) -> Any:
        """Does what `Redis.execute_command` does, with a command that hiredis has packed."""
        redis = self._redis
        pool = redis.connection_pool
        connection = ready_connection(pool) or await pool.get_connection()

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


class ScriptRunners(NamedTuple):
    """The two runners of a worker, which differ in their timeouts."""

    jobs: ScriptRunner
    heartbeat: ScriptRunner
    """For the calls that renew leases: its timeout leaves time for a second call before a lease ends."""

    @classmethod
    def on(cls, redis: Redis, *, timeout_s: float, heartbeat_timeout_s: float) -> Self:
        return cls(PackedRunner(redis, timeout_s=timeout_s), PackedRunner(redis, timeout_s=heartbeat_timeout_s))
