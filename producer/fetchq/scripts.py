"""The Lua scripts of the producer, each in a file of its own under `lua/`, and the part that several of them share."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

_INCLUDE = "--#include frontier\n"
"""Where a script that has to know whose turn it is takes `lua/frontier.lua` in."""


@cache
def script_source(name: str, package: str = "fetchq") -> str:
    """A script as it is sent: that of `lua/<name>.lua` in `package`, with what it includes in its place."""
    source = _read(package, name)
    return source.replace(_INCLUDE, _read("fetchq", "frontier")) if _INCLUDE in source else source


def load_script(redis: Redis, name: str) -> AsyncScript:
    """The script as a callable; it is sent by its hash, and whole where the server does not know it (yet, or again)."""
    script: Any = redis.register_script(script_source(name))
    return script  # type: ignore[no-any-return]


def _read(package: str, name: str) -> str:
    return files(package).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
