"""The Lua scripts of the producer, each in a file of its own under `lua/`, and the parts that several of them share."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any, Final

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

_INCLUDE: Final = re.compile(r"^--#include (\w+)\n", re.MULTILINE)
"""Where a script takes in another file of its folder, or else of the producer's."""


@cache
def script_source(name: str, package: str = "fetchq") -> str:
    """A script as it is sent: that of `lua/<name>.lua` in `package`, with what it includes in its place."""

    def included(line: re.Match[str]) -> str:
        own = files(package).joinpath("lua", f"{line[1]}.lua").is_file()
        return script_source(line[1], package if own else "fetchq")

    return _INCLUDE.sub(included, _read(package, name))


def load_script(redis: Redis, name: str) -> AsyncScript:
    """The script as a callable; it is sent by its hash, and whole where the server does not know it (yet, or again)."""
    script: Any = redis.register_script(script_source(name))
    return script  # type: ignore[no-any-return]


def _read(package: str, name: str) -> str:
    return files(package).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
