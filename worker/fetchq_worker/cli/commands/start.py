"""Starts the action of every command: imports heavy modules only then."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

import click

from fetchq.command.option_types import given_settings, setting_names


def start(command: Any, *arguments: Any, uses: Collection[str] | None = None, fast_loop: bool = False) -> NoReturn:
    """Runs `command(*arguments, settings)` and ends with its exit status.

    The settings are those that have an option in the current command, from the command line, else the environment;
    with `uses`, only those of them. `fast_loop`: on uvloop, which takes 20 ms to load.
    """
    from fetchq.command.settings import Given, given_by
    from fetchq_worker.cli.terminal.run import run_with_settings, warn_of_unknown_variables

    context = click.get_current_context()
    names = setting_names(context.command) if uses is None else uses
    of_command_line = {name: Given(*one) for name, one in given_settings(context).items() if name in names}
    warn_of_unknown_variables()
    loop_factory = None
    if fast_loop and sys.platform != "win32":
        from fetchq_worker.process.event_loop import WorkerLoop

        loop_factory = WorkerLoop
    given = given_by(os.environ, names) | of_command_line
    context.exit(run_with_settings(command, *arguments, given=given, loop_factory=loop_factory))


def is_given(name: str) -> bool:
    """Whether a setting is on the command line or in the environment."""
    from fetchq.command.settings import given_by

    return name in given_settings(click.get_current_context()) or bool(given_by(os.environ, [name]))


class LoadedOnUse(ModuleType):
    """A placeholder in `sys.modules` for a module that is loaded when one of its attributes is read.

    importlib's `LazyLoader` does not work here: the `import` statement reads `__spec__`, which loads the module.
    """

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)
