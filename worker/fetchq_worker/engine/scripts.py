"""The engine's Lua scripts, each in a file of its own under `lua/`, and how they are called."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final, Self

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

REDIS_ERRORS: Final = (RedisError, OSError)
"""What a call can raise when Redis is away, full, or says no. The command may have been carried out or not."""

MAX_JOBS_A_CALL: Final = 1000
"""Lua's `unpack` gives up at 8000 values, and a longer script would hold up everybody else's commands."""

_FLAGS: Final = "#!lua flags=allow-oom\n"
"""Redis 7 reads flags from a script's first line; older servers and fakeredis take the line for broken Lua."""


@cache
def _source(name: str) -> str:
    return files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


class Script:
    """One script: sent by its hash, and whole where the server does not know it (yet, or after SCRIPT FLUSH).

    A call that takes longer than `timeout_s` is given up, and its connection with it: a `TimeoutError`.
    """

    def __init__(self, redis: Redis, name: str, *, flags: bool, timeout_s: float) -> None:
        source = _source(name)
        if not flags:
            source = source.removeprefix(_FLAGS)
        self._execute: Callable[..., Awaitable[Any]] = redis.execute_command
        self._source = source
        self._sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        self._timeout_s = timeout_s

    async def __call__(self, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        async with asyncio.timeout(self._timeout_s):
            try:
                return await self._execute("EVALSHA", self._sha, len(keys), *keys, *args)
            except NoScriptError:
                return await self._execute("EVAL", self._source, len(keys), *keys, *args)


class Scripts:
    """All scripts of the engine, as one server takes them."""

    def __init__(self, redis: Redis, *, flags: bool, timeout_s: float) -> None:
        def script(name: str) -> Script:
            return Script(redis, name, flags=flags, timeout_s=timeout_s)

        self.claim: Final = script("claim")
        self.give_back: Final = script("give_back")
        self.commit: Final = script("commit")
        self.renew: Final = script("renew")
        self.aborts: Final = script("aborts")
        self.keep: Final = script("keep")
        self.presence: Final = script("presence")
        self.pass_wake: Final = script("pass_wake")

    @classmethod
    async def open(cls, redis: Redis, *, timeout_s: float) -> Self:
        """The scripts, with their flags where the server knows flags (Redis 7)."""
        try:
            async with asyncio.timeout(timeout_s):
                execute: Callable[..., Awaitable[Any]] = redis.execute_command
                await execute("EVAL", f"{_FLAGS}return 1", 0)
            flags = True
        except ResponseError:
            flags = False
        return cls(redis, flags=flags, timeout_s=timeout_s)
