"""The Lua scripts of the producer, each in a file of its own under `lua/`, and the parts that several of them share."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any, Final

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

_INCLUDE: Final = re.compile(r"^--#include (\w+)\n", re.MULTILINE)
"""Where a script takes another file of its folder in, or `lua/frontier.lua`, which is whose turn it is."""


@cache
def script_source(name: str, package: str = "fetchq") -> str:
    """A script as it is sent: that of `lua/<name>.lua` in `package`, with what it includes in its place."""
    return _INCLUDE.sub(
        lambda part: _read("fetchq" if part[1] == "frontier" else package, part[1]), _read(package, name)
    )


def load_script(redis: Redis, name: str) -> AsyncScript:
    """The script as a callable; it is sent by its hash, and whole where the server does not know it (yet, or again)."""
    script: Any = redis.register_script(script_source(name))
    return script  # type: ignore[no-any-return]


def _read(package: str, name: str) -> str:
    return files(package).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
