"""Where every command passes from its options to its action, and from light modules to heavy ones."""

from __future__ import annotations

import sys
from importlib.util import LazyLoader, find_spec, module_from_spec
from typing import Any, NoReturn

import typer


def start(command: Any, *arguments: Any, fast_loop: bool = False, **flags: Any) -> NoReturn:
    """Runs `command(*arguments, settings)` with the settings that the environment and `flags` make.

    Ends the command with its exit status, as `typer.Exit`. `fast_loop`: on uvloop, which takes 20 ms to load.
    """
    from fetchq_worker.cli.terminal.run import run_with_settings

    if fast_loop and sys.platform != "win32":
        import uvloop

        flags["loop_factory"] = uvloop.new_event_loop
    raise typer.Exit(run_with_settings(command, *arguments, **flags))


def load_on_use(name: str) -> None:
    """Lets `import name` succeed at once; the module is loaded when one of its attributes is read."""
    spec = None if name in sys.modules else find_spec(name)
    if spec is not None and spec.loader is not None:
        spec.loader = LazyLoader(spec.loader)
        module = sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(module)
