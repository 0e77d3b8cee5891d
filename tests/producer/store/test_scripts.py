"""The Lua scripts: assembly from includes, and errors that name file and line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from arq.connections import ArqRedis
from redis.exceptions import ResponseError

from fetchq.store import scripts
from fetchq.store.scripts import IncludeError, locate, locate_error, script_names, script_source

Files = dict[str, str]


@pytest.fixture
def lua(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Files], None]]:
    """Replaces the files under `lua/`."""

    def use(texts: Files) -> None:
        def read(name: str) -> str:
            try:
                return texts[name]
            except KeyError:
                raise FileNotFoundError(name) from None

        monkeypatch.setattr(scripts, "_read", read)

    scripts._assemble.cache_clear()
    yield use
    scripts._assemble.cache_clear()


def test_an_include_is_inserted_before_the_file_that_names_it(lua: Callable[[Files], None]) -> None:
    lua({"jobs/a": "--#include x\nreturn x\n", "include/x": "local x = 1\n"})
    assert script_source("jobs/a") == "local x = 1\nreturn x\n"


def test_an_include_that_two_others_need_appears_once_and_before_both(lua: Callable[[Files], None]) -> None:
    lua(
        {
            "jobs/a": "--#include x\n--#include y\nreturn x + y\n",
            "include/x": "--#include base\nlocal x = base\n",
            "include/y": "--#include base\nlocal y = base\n",
            "include/base": "local base = 1\n",
        }
    )
    assert script_source("jobs/a") == "local base = 1\nlocal x = base\nlocal y = base\nreturn x + y\n"


def test_a_circle_of_includes_is_refused_with_its_chain(lua: Callable[[Files], None]) -> None:
    lua({"jobs/a": "--#include x\n", "include/x": "--#include y\n", "include/y": "--#include x\n"})
    with pytest.raises(IncludeError, match="jobs/a -> include/x -> include/y -> include/x"):
        script_source("jobs/a")


def test_an_unknown_include_is_refused_with_the_line_that_names_it(lua: Callable[[Files], None]) -> None:
    lua({"jobs/a": "return 1\n--#include nothing\n"})
    with pytest.raises(IncludeError, match=re.escape("jobs/a.lua:2: there is no include/nothing.lua")):
        script_source("jobs/a")


def test_comments_and_blank_lines_are_not_sent_and_lines_are_still_located(lua: Callable[[Files], None]) -> None:
    lua(
        {
            "jobs/a": "#!lua flags=allow-oom\n-- Why.\n\n--#include x\nlocal a = x -- kept\n  -- not\nreturn a\n",
            "include/x": "-- Header.\n\nlocal x = 1\n",
        }
    )
    assert script_source("jobs/a") == "#!lua flags=allow-oom\nlocal x = 1\nlocal a = x -- kept\nreturn a\n"
    assert [locate("jobs/a", line) for line in range(6)] == [
        "jobs/a.lua",
        "jobs/a.lua:1",
        "include/x.lua:3",
        "jobs/a.lua:5",
        "jobs/a.lua:7",
        "jobs/a.lua",
    ]


@pytest.mark.asyncio
async def test_an_error_of_the_server_is_mapped_to_file_and_line(
    lua: Callable[[Files], None], real_redis: ArqRedis
) -> None:
    lua(
        {
            "jobs/a": "-- Header.\n--#include x\nx.fail(KEYS[1])\n",
            "include/x": "-- Why.\nlocal x = {}\n\nfunction x.fail(key)\n  redis.call('LPUSH', key, 1)\nend\n",
        }
    )
    await real_redis.set("text", "1")
    with pytest.raises(ResponseError) as failure:
        await real_redis.eval(script_source("jobs/a"), 1, "text")  # type: ignore[misc]  # redis-py 5's two kinds of reply
    locate_error("jobs/a", failure.value)
    assert str(failure.value).startswith("WRONGTYPE ")
    assert "on include/x.lua:5." in str(failure.value)


@pytest.mark.parametrize("name", script_names())
def test_every_script_has_a_header_and_no_line_that_would_be_dropped_wrongly(name: str) -> None:
    """Lines that begin with `--` are dropped, so no script may have such a line in a long comment or string."""
    source = script_source(name)
    assert "[[" not in source
    assert "--#include" not in source


INCLUDES = sorted((Path(str(files("fetchq.store"))) / "lua" / "include").rglob("*.lua"))


def test_every_include_is_used() -> None:
    used = {line.file for name in script_names() for line in scripts._assemble(name)}
    assert {"/".join(file.with_suffix("").parts[-3:]) for file in INCLUDES} <= used


def test_a_folder_of_scripts_or_includes_has_at_most_twelve_files() -> None:
    sizes = Counter(str(file.parent) for file in (Path(str(files("fetchq.store"))) / "lua").rglob("*.lua"))
    assert {folder: size for folder, size in sizes.items() if size > 12} == {}


@pytest.mark.parametrize("file", INCLUDES, ids=lambda file: file.name)
def test_every_include_has_a_header_and_is_short(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("-- ")
    assert len(lines) <= 130
