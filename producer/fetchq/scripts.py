"""The producer's Lua scripts, each in a file of its own under `lua/`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript


@cache
def _source(name: str) -> str:
    return files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def load_script(redis: Redis, name: str) -> AsyncScript:
    """The script as a callable; it is sent by its hash, and whole where the server does not know it (yet, or again)."""
    script: Any = redis.register_script(_source(name))
    return script  # type: ignore[no-any-return]
