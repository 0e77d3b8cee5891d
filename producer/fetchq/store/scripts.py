"""The Lua scripts: each a file under `lua/`, assembled with the includes that it names.

A line `--#include hosts/limits` stands for `lua/include/hosts/limits.lua`. An include is inserted once a script, before
the first file that names it, and can include others. Comments and blank lines are not sent; `locate` maps a sent line
to its file.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from redis.exceptions import ResponseError

_INCLUDE: Final = re.compile(r"--#include ([\w/]+)")
_ERROR_LINE: Final = re.compile(r"@?\buser_script:(\d+)")


class IncludeError(Exception):
    """A script names an include that does not exist, or one that includes itself."""


class _Line(NamedTuple):
    text: str
    file: str
    number: int


def script_source(name: str) -> str:
    """The script `lua/<name>.lua` as it is sent to Redis, its includes inserted."""
    return "".join(line.text + "\n" for line in _assemble(name))


def locate(name: str, line: int) -> str:
    """Where a line of `script_source(name)`, counted from 1, comes from: `jobs/claim.lua:41`."""
    lines = _assemble(name)
    if not 1 <= line <= len(lines):
        return f"{name}.lua"
    return f"{lines[line - 1].file}.lua:{lines[line - 1].number}"


def locate_error(name: str, error: ResponseError) -> None:
    """Names file and line in an error that the script `name` raised, in place of Redis's `user_script:<line>`."""
    error.args = (_ERROR_LINE.sub(lambda match: locate(name, int(match[1])), str(error)),)


@cache
def _assemble(name: str) -> tuple[_Line, ...]:
    lines: list[_Line] = []
    _append(name, (), set(), lines)
    return tuple(lines)


def _append(file: str, including: tuple[str, ...], included: set[str], lines: list[_Line]) -> None:
    chain = (*including, file)
    if file in including:
        raise IncludeError(f"circular include: {' -> '.join(chain)}")
    if file in included:
        return
    for number, text in enumerate(_read(file).splitlines(), 1):
        include = _INCLUDE.fullmatch(text)
        if include:
            try:
                _append(f"include/{include[1]}", chain, included, lines)
            except FileNotFoundError:
                raise IncludeError(f"{file}.lua:{number}: there is no include/{include[1]}.lua") from None
        elif text.strip() and not text.lstrip().startswith("--"):
            lines.append(_Line(text, file, number))
    included.add(file)


def _read(name: str) -> str:
    return files("fetchq.store").joinpath("lua", *f"{name}.lua".split("/")).read_text(encoding="utf-8")


def script_names() -> list[str]:
    """The names of all scripts that are called: `<folder>/<script>`, without the includes."""
    folders = [folder for folder in files("fetchq.store").joinpath("lua").iterdir() if folder.name != "include"]
    return sorted(
        f"{folder.name}/{script.name.removesuffix('.lua')}" for folder in folders for script in folder.iterdir()
    )
