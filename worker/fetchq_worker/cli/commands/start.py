"""Starts the action of every command: imports heavy modules only then."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

import typer


def start(command: Any, *arguments: Any, fast_loop: bool = False, **flags: Any) -> NoReturn:
    """Runs `command(*arguments, settings)` with the settings that the environment and `flags` make.

    Ends the command with its exit status, as `typer.Exit`. `fast_loop`: on uvloop, which takes 20 ms to load.
    """
    from fetchq_worker.cli.terminal.run import run_with_settings

    if fast_loop and sys.platform != "win32":
        from fetchq_worker.process.event_loop import WorkerLoop

        flags["loop_factory"] = WorkerLoop
    raise typer.Exit(run_with_settings(command, *arguments, **flags))


class LoadedOnUse(ModuleType):
    """A placeholder in `sys.modules` for a module that is loaded when one of its attributes is read.

    importlib's `LazyLoader` does not work here: the `import` statement reads `__spec__`, which loads the module.
    """

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)
