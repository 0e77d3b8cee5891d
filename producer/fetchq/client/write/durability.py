"""Acknowledges writes only when they are durable: sends a script and an ack command on one connection.

`WAIT` and `WAITAOF` concern the writes of the connection on which they are sent, so each follows its script in the
same round trip. A server with `appendfsync always` writes to its disk before it replies; there the ack command only
reads that setting. With `everysec`, the ack command is a `WAITAOF` that waits for the disk, as in Redis 7.2, and in 8.0
and later. In Redis 7.4 and in Valkey it can reply a second early (redis/redis#13793; for Valkey, a trace of its system
calls shows it). (redis.io/docs: "WAIT", "WAITAOF", "Redis persistence".)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from fetchq.errors import DurabilityRefused
from fetchq.store.errors import CONNECTION_ERRORS, address_of
from fetchq.store.keys import Keys
from fetchq.store.runner import Argument, ClientRunner, LoadedScripts, ScriptRunner
from fetchq.store.scripts import locate_error

from .policy import Durability, WritePolicy

MARKER_MS: Final = 60_000
_SOCKET_SHARE: Final = 0.8
"""An ack command may take this share of the client's socket timeout, at which the connection counts as lost."""
_APPEND_SETTINGS: Final = "*append*"
_WANTED_SETTINGS: Final = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}

Command = tuple[str | int, ...]

ReplyT = TypeVar("ReplyT")


class DurableCalls:
    """Runs commands as durably as a policy asks for."""

    def __init__(self, redis: Redis, keys: Keys, policy: WritePolicy) -> None:
        self._redis = redis
        self._runner: Final = ClientRunner(redis)
        self._scripts: Final = LoadedScripts(redis)
        self._marker = keys.durability_marker
        self._durability: Final = policy.durability
        self._replicas: Final = policy.replicas or 1
        socket_timeout_s = redis.connection_pool.connection_kwargs.get("socket_timeout")
        self.timeout_s: Final = min(policy.durable_timeout_s, _SOCKET_SHARE * (socket_timeout_s or float("inf")))
        self._ack_command: Command | None = None
        self._loaded: set[str] = set()

    async def call(
        self,
        command: Callable[[ScriptRunner], Awaitable[ReplyT]],
        *,
        wrote_nothing: Callable[[ReplyT], bool],
        replied: Callable[[], None],
    ) -> tuple[ReplyT, str]:
        """Returns the reply of `command`, and why its writes are not known to be durable (empty: they are).

        `replied` is called when the script has replied; the acknowledgement can take a second longer.

        `wrote_nothing` says that all jobs existed already. Another connection may have written them a moment ago, so a
        marker is written after them, and its acknowledgement covers them too.

        Raises `DurabilityRefused` before anything is written.
        """
        if self._durability is Durability.MEMORY:
            reply = await command(self._runner)
            replied()
            return reply, ""
        try:
            return await self._call_acknowledged(command, wrote_nothing, replied)
        except CONNECTION_ERRORS:
            self._ack_command = None  # the next connection may lead to another server
            raise

    async def _call_acknowledged(
        self,
        command: Callable[[ScriptRunner], Awaitable[ReplyT]],
        wrote_nothing: Callable[[ReplyT], bool],
        replied: Callable[[], None],
    ) -> tuple[ReplyT, str]:
        ack_command = self._ack_command = self._ack_command or await self._check()
        runner = _AckRunner(self, ack_command, replied)
        reply = await command(runner)
        reason = self._not_durable_reason(runner.ack)
        if not reason and wrote_nothing(reply):
            marked, ack = await self._exchange(("SET", self._marker, "", "PX", MARKER_MS), ack_command, replied)
            reason = str(marked) if isinstance(marked, RedisError) else self._not_durable_reason(ack)
        if reason:
            self._ack_command = None  # the server may be configured differently by now
        return reply, reason

    async def _run(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[Argument],
        ack_command: Command,
        replied: Callable[[], None],
    ) -> tuple[Any, Any]:
        source, sha = self._scripts[script]
        numbered = (len(keys), *keys, *args)
        # After a script that the server does not know, the ack command would confirm nothing, and could take long.
        by_hash, whole = ("EVALSHA", sha, *numbered), ("EVAL", source, *numbered)
        reply, ack = await self._exchange(by_hash if script in self._loaded else whole, ack_command, replied)
        if isinstance(reply, NoScriptError):
            reply, ack = await self._exchange(whole, ack_command, replied)
        if isinstance(reply, RedisError):
            if isinstance(reply, ResponseError):
                locate_error(script, reply)
            raise reply
        self._loaded.add(script)
        return reply, ack

    async def _exchange(
        self, command: Sequence[Any], ack_command: Command, replied: Callable[[], None]
    ) -> tuple[Any, Any]:
        def on_reply(response: Any, **_kwargs: Any) -> Any:
            replied()
            return response

        async with self._redis.pipeline(transaction=False) as pipe:
            # A pipeline returns its replies together, but runs the callbacks as it reads each.
            pipe.response_callbacks = {**pipe.response_callbacks, str(command[0]): on_reply}
            pipe.execute_command(*command)
            pipe.execute_command(*ack_command)
            reply, ack = await pipe.execute(raise_on_error=False)
            return reply, ack

    async def _check(self) -> Command:
        """The ack command for this server. Raises `DurabilityRefused` if there is none."""
        timeout_ms = max(1, round(self.timeout_s * 1000))
        if self._durability is Durability.REPLICATED:
            try:
                await self._ask("WAIT", 0, 1)
            except ResponseError as problem:
                raise self._refusal("replicated", f"it does not take WAIT ({problem})") from problem
            return ("WAIT", self._replicas, timeout_ms)
        lacks = "it has no WAITAOF that always waits for the disk (Redis 7.2 and 8 have)"
        if await self._has_waitaof():
            return ("WAITAOF", 1, 0, timeout_ms)
        ack_command: Command = ("CONFIG GET", _APPEND_SETTINGS)
        try:
            settings = await self._ask(*ack_command)
        except ResponseError as problem:
            raise self._refusal("fsync", f"{lacks}, and does not permit reading appendfsync ({problem})") from problem
        if reason := _wrong_settings(settings):
            raise self._refusal("fsync", f"{lacks}, and {reason}")
        return ack_command

    async def _has_waitaof(self) -> bool:
        try:
            if not waitaof_waits(await self._ask("INFO", "server")):
                return False
            await self._ask("WAITAOF", 1, 0, 1)
        except ResponseError as problem:
            if "appendonly is disabled" in str(problem):
                raise self._refusal("fsync", "it has no append-only file: appendonly is no") from problem
            return False
        return True

    async def _ask(self, *command: str | int) -> Any:
        execute: Callable[..., Any] = self._redis.execute_command
        return await execute(*command)

    def _refusal(self, durability: str, why: str) -> DurabilityRefused:
        return DurabilityRefused(f"Redis at {address_of(self._redis)} cannot provide durability={durability!r}: {why}")

    def _not_durable_reason(self, ack: Any) -> str:
        if isinstance(ack, RedisError):
            return str(ack)
        if self._durability is Durability.REPLICATED:
            if ack >= self._replicas:
                return ""
            return f"{ack} of {self._replicas} replicas had them after {self.timeout_s:g} s"
        if isinstance(ack, dict):
            return _wrong_settings(ack)
        return "" if ack[0] >= 1 else f"they were not on its disk after {self.timeout_s:g} s"


class _AckRunner:
    """Runs one script followed by an ack command, on one connection in one round trip."""

    def __init__(self, calls: DurableCalls, ack_command: Command, replied: Callable[[], None]) -> None:
        self._calls: Final = calls
        self._ack_command: Final = ack_command
        self._replied: Final = replied
        self.ack: Any = None
        """The reply to the ack command."""

    async def run(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        on_sent: Callable[[], None] | None = None,
    ) -> Any:
        reply, self.ack = await self._calls._run(script, keys, args, self._ack_command, self._replied)
        if on_sent is not None:
            on_sent()
        return reply


def _wrong_settings(settings: dict[str, str]) -> str:
    """Why a server with these settings does not write to its disk before it replies; '' if it does."""
    wrong = [
        f"{name} is {settings.get(name)}, not {wanted}"
        for name, wanted in _WANTED_SETTINGS.items()
        if settings.get(name) != wanted
    ]
    return ", ".join(wrong)


def waitaof_waits(server: dict[str, Any]) -> bool:
    """Whether a server with this `INFO server` replies to WAITAOF only when its disk has the writes."""
    if "valkey_version" in server:  # its redis_version is that of the Redis from which Valkey was forked
        return False
    major, _, rest = str(server.get("redis_version", "")).partition(".")
    return major.isdigit() and (int(major) >= 8 or (int(major) == 7 and rest.startswith("2.")))
