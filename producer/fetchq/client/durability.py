"""Writes that are known to be durable when they are acknowledged: a script and the question, on one connection.

`WAIT` and `WAITAOF` speak of the writes of the connection that they come over, so each goes out behind the script that
it is about, in one round trip. A server with `appendfsync always` writes to its disk before it replies, and the
question is only whether it is set up so. With `everysec` it takes a `WAITAOF` that waits for the disk: that of Redis
7.2, and since 8.0. In Redis 7.4 and in Valkey it can answer a second early (redis/redis#13793; for Valkey, a trace of
its system calls shows it). (redis.io/docs: "WAIT", "WAITAOF", "Redis persistence".)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError, RedisError, ResponseError

from fetchq.errors import DurabilityRefused
from fetchq.store.errors import CONNECTION_ERRORS, place_of
from fetchq.store.keys import Keys

from .write_policy import Durability, WritePolicy

FENCE_MS: Final = 60_000
_SOCKET_SHARE: Final = 0.8
"""A question may take so much of the client's socket timeout, past which a connection counts as lost."""
_APPEND_SETTINGS: Final = "*append*"
_WANTED_SETTINGS: Final = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}

Command = tuple[str | int, ...]


class DurableCalls:
    """Calls scripts as durably as a policy asks for."""

    def __init__(self, redis: Redis, keys: Keys, policy: WritePolicy) -> None:
        self._redis = redis
        self._fence = keys.durability_marker
        self._durability: Final = policy.durability
        self._replicas: Final = policy.replicas or 1
        socket_timeout_s = redis.connection_pool.connection_kwargs.get("socket_timeout")
        self.timeout_s: Final = min(policy.durable_timeout_s, _SOCKET_SHARE * (socket_timeout_s or float("inf")))
        self._question: Command | None = None
        self._loaded = False

    async def call(
        self,
        script: AsyncScript,
        keys: Sequence[str],
        args: Sequence[Any],
        *,
        found: Callable[[Any], bool],
        replied: Callable[[], None],
    ) -> tuple[Any, str]:
        """The script's reply, and why its writes are not known to be durable ('': they are).

        `replied` is called when the script's own reply is there: that they are durable may be known a second later.

        `found` says of a reply whether the script wrote nothing, since what it was to write is there. That may be there
        since a moment ago, by another connection: a marker is written behind it, and asked about in its place.

        Raises `DurabilityRefused` before anything is written.
        """
        if self._durability is Durability.MEMORY:
            reply = await script(keys=keys, args=args)
            replied()
            return reply, ""
        try:
            return await self._call(script, keys, args, found, replied)
        except CONNECTION_ERRORS:
            self._question = None  # the next connection may lead to another server
            raise

    async def _call(
        self,
        script: AsyncScript,
        keys: Sequence[str],
        args: Sequence[Any],
        found: Callable[[Any], bool],
        replied: Callable[[], None],
    ) -> tuple[Any, str]:
        question = self._question = self._question or await self._check()
        numbered = (len(keys), *keys, *args)
        by_hash, whole = ("EVALSHA", script.sha, *numbered), ("EVAL", script.script, *numbered)
        # Behind a script that the server does not know, the question would be about nothing, and could last.
        reply, said = await self._exchange(by_hash if self._loaded else whole, question, replied)
        if isinstance(reply, NoScriptError):
            reply, said = await self._exchange(whole, question, replied)
        if isinstance(reply, RedisError):
            raise reply
        self._loaded = True
        doubt = self._doubt(said)
        if not doubt and found(reply):
            fenced, said = await self._exchange(("SET", self._fence, "", "PX", FENCE_MS), question, replied)
            doubt = str(fenced) if isinstance(fenced, RedisError) else self._doubt(said)
        if doubt:
            self._question = None  # the server may be set up in another way by now
        return reply, doubt

    async def _exchange(
        self, command: Sequence[Any], question: Command, replied: Callable[[], None]
    ) -> tuple[Any, Any]:
        def note(response: Any, **_kwargs: Any) -> Any:
            replied()
            return response

        async with self._redis.pipeline(transaction=False) as pipe:
            # A pipeline returns its replies when the last is there, but reads them one by one.
            pipe.response_callbacks = {**pipe.response_callbacks, str(command[0]): note}
            pipe.execute_command(*command)
            pipe.execute_command(*question)
            reply, said = await pipe.execute(raise_on_error=False)
            return reply, said

    async def _check(self) -> Command:
        """The question to ask after each write; raises `DurabilityRefused` if this server has no answer to any."""
        timeout_ms = max(1, round(self.timeout_s * 1000))
        if self._durability is Durability.REPLICATED:
            try:
                await self._ask("WAIT", 0, 1)
            except ResponseError as problem:
                raise self._refusal("replicated", f"it does not take WAIT ({problem})") from problem
            return ("WAIT", self._replicas, timeout_ms)
        lacks = "it has no WAITAOF that always waits for its disk (Redis 7.2 and 8 have)"
        if await self._has_waitaof():
            return ("WAITAOF", 1, 0, timeout_ms)
        question: Command = ("CONFIG GET", _APPEND_SETTINGS)
        try:
            settings = await self._ask(*question)
        except ResponseError as problem:
            raise self._refusal("fsync", f"{lacks}, nor lets us read its appendfsync ({problem})") from problem
        if doubt := _doubt_of_settings(settings):
            raise self._refusal("fsync", f"{lacks}, and {doubt}")
        return question

    async def _has_waitaof(self) -> bool:
        try:
            if not waitaof_waits(await self._ask("INFO", "server")):
                return False
            await self._ask("WAITAOF", 1, 0, 1)
        except ResponseError as problem:
            if "appendonly is disabled" in str(problem):
                raise self._refusal("fsync", "it keeps no append-only file: appendonly is no") from problem
            return False
        return True

    async def _ask(self, *command: str | int) -> Any:
        execute: Callable[..., Any] = self._redis.execute_command
        return await execute(*command)

    def _refusal(self, durability: str, why: str) -> DurabilityRefused:
        return DurabilityRefused(f"Redis at {place_of(self._redis)} cannot promise durability={durability!r}: {why}")

    def _doubt(self, said: Any) -> str:
        if isinstance(said, RedisError):
            return str(said)
        if self._durability is Durability.REPLICATED:
            if said >= self._replicas:
                return ""
            return f"{said} of {self._replicas} replicas had them after {self.timeout_s:g} s"
        if isinstance(said, dict):
            return _doubt_of_settings(said)
        return "" if said[0] >= 1 else f"they were not on its disk after {self.timeout_s:g} s"


def _doubt_of_settings(settings: dict[str, str]) -> str:
    """Why a server of these settings does not write to its disk before it replies; '' for one that does."""
    wrong = [
        f"{name} is {settings.get(name)}, not {wanted}"
        for name, wanted in _WANTED_SETTINGS.items()
        if settings.get(name) != wanted
    ]
    return ", ".join(wrong)


def waitaof_waits(server: dict[str, Any]) -> bool:
    """Whether a server of this `INFO server` answers WAITAOF when its disk has the writes, and not before."""
    if "valkey_version" in server:  # its redis_version is that of the Redis which it came from
        return False
    major, _, rest = str(server.get("redis_version", "")).partition(".")
    return major.isdigit() and (int(major) >= 8 or (int(major) == 7 and rest.startswith("2.")))
