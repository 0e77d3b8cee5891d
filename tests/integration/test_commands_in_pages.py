"""Every `fetchq` command in README, docs and files for operators is one that the command line has, with its options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fetchq.command.settings import flag_of
from fetchq_gateway.command import serve
from fetchq_worker.cli.app import app
from fetchq_worker.settings import Settings, unknown_variables

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "producer/README.md", "worker/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "docker-compose.yml",
    ROOT / "Dockerfile",
]
FLAGS_OF_ARQ = {"--custom-log-dict", "--watch"}
OTHER_VARIABLES = {"FETCHQ_TEST_NO_SERVERS"}


def commands_in(text: str) -> Iterator[str]:
    """What follows `fetchq` in code spans and in lines of shell blocks."""
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r" [|] | && ", line.partition(" #")[0]):
                if part.startswith("fetchq "):
                    yield part.removeprefix("fetchq ")
    yield from (found.partition(" | ")[0] for found in re.findall(r"`fetchq ([^`\n]+)`", text))


def problem_of(line: str) -> str:
    """What is wrong with a command; empty if nothing is."""
    words = shlex.split(line.replace("...", ""))
    command: click.Command = app
    context = click.Context(app)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0).split("|")[0].rstrip(",")
        if name.isupper():  # a placeholder
            return ""
        found = command.get_command(context, name)
        if found is None:
            return f"fetchq {line}: no such command"
        command = found
    known = {opt for one in command.params if isinstance(one, click.Option) for opt in (*one.opts, *one.secondary_opts)}
    named = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    unknown = [word for word in named if word not in known | {"--help", "-h"}]
    return f"fetchq {line}: no option {unknown[0]}" if unknown else ""


def test_every_command_in_the_pages_exists() -> None:
    lines = [line for page in PAGES for line in commands_in(page.read_text(encoding="utf-8"))]
    assert len(lines) > 30
    assert [problem for line in lines if (problem := problem_of(line))] == []


@pytest.mark.parametrize("line", ["fly", "worker --wings", "limits fly", "enqueue URL --robot"])
def test_the_check_finds_an_unknown_command_or_option(line: str) -> None:
    assert problem_of(line)


def test_every_variable_in_the_pages_exists() -> None:
    for page in PAGES:
        named = set(re.findall(r"FETCHQ_[A-Z_]*[A-Z]", page.read_text(encoding="utf-8"))) - OTHER_VARIABLES
        assert unknown_variables(dict.fromkeys(named, "")) == {}, page


def test_flags_alone_in_the_pages_exist() -> None:
    everything = {flag_of(name) for name in Settings.__struct_fields__}
    commands: list[click.Command] = [app, serve]
    while commands:
        command = commands.pop()
        everything |= {opt for one in command.params for opt in (*one.opts, *one.secondary_opts)}
        if isinstance(command, click.Group):
            commands += command.commands.values()
    for page in PAGES[:-2]:
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"`(--[a-z][a-z-]+)", text))
        assert sorted(named - everything - {"--help"} - FLAGS_OF_ARQ) == [], page
