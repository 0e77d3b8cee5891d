"""The Lua scripts, each in a file of its own under `lua/`, and the includes that several of them share."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any, Final

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

_INCLUDE: Final = re.compile(r"^--#include (\w+)\n", re.MULTILINE)


@cache
def script_source(name: str) -> str:
    """The script `lua/<name>.lua` as it is sent: each include is replaced by its text."""
    return _INCLUDE.sub(lambda line: script_source(f"include/{line[1]}"), _read(name))


def load_script(redis: Redis, name: str) -> AsyncScript:
    """The script as a callable. It is sent by its hash, and whole where the server does not know it."""
    script: Any = redis.register_script(script_source(name))
    return script  # type: ignore[no-any-return]


def _read(name: str) -> str:
    return files("fetchq.store").joinpath("lua", *f"{name}.lua".split("/")).read_text(encoding="utf-8")


def script_names() -> list[str]:
    """The names of all scripts that are called: `<room>/<script>`, without the includes."""
    rooms = [room for room in files("fetchq.store").joinpath("lua").iterdir() if room.name != "include"]
    return sorted(f"{room.name}/{script.name.removesuffix('.lua')}" for room in rooms for script in room.iterdir())
