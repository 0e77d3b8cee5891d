"""The scripts under `lua/hosts/`: cooldowns and limits of limit keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from fetchq.store.keys import Keys
from fetchq.store.registry import key_names
from fetchq.store.runner import ScriptRunner


class LimitsReply(NamedTuple):
    """The limits of a name after a change."""

    limits: bytes
    """Such as `c=2 r=500000`; empty for nothing."""
    existed: bool
    """Whether anything was set before."""
    released: int
    """How many jobs the change made ready."""


class CooldownReply(NamedTuple):
    """The cooldown of a limit key after another one was asked for."""

    remaining_ms: int
    began: int
    """1 if it began with this call, 0 if the key was in a cooldown before."""


class HostCommands:
    """The scripts of limit keys, for one queue."""

    def __init__(self, keys: Keys) -> None:
        self._cooldown_keys: Final = key_names("hosts/cooldown", keys)
        self._limits_keys: Final = key_names("hosts/set_limits", keys)
        self._waiting: Final = keys.waiting

    async def cooldown(
        self,
        runner: ScriptRunner,
        limit_key: str,
        *,
        asked_ms: int | None,
        first_ms: int,
        max_ms: int,
        now_ms: int | None = None,
    ) -> CooldownReply:
        """Starts a cooldown of a limit key, for `asked_ms` if its server asked for a time.

        Otherwise for `first_ms`, doubled with each further cooldown until a success. Never longer than `max_ms`.
        """
        asked = "" if asked_ms is None else asked_ms
        args = ("" if now_ms is None else now_ms, self._waiting, limit_key, asked, first_ms, max_ms)
        return CooldownReply(*await runner.run("hosts/cooldown", self._cooldown_keys, args))

    async def set_limits(
        self,
        runner: ScriptRunner,
        name: str,
        action: Literal["set", "resume", "clear", ""],
        limits: str = "",
        *,
        recheck: Iterable[bytes | str] = (),
        now_ms: int | None = None,
    ) -> LimitsReply:
        """Changes the limits of `name`: a limit key, a wildcard such as `*.example.org`, or `*`.

        `set` adds `limits`, such as `c=2 r=500000`; `resume` ends a pause, also one of a wider name; `clear` removes
        all. Waiting jobs of the limit keys in `recheck` become ready if they may start now; an empty name changes no
        limits.
        """
        args = ("" if now_ms is None else now_ms, self._waiting, name, action, limits, *recheck)
        text, existed, released = await runner.run("hosts/set_limits", self._limits_keys, args)
        return LimitsReply(text, existed == 1, released)
