"""Where every command passes from its options to its work, and from the light modules to the heavy ones."""

from __future__ import annotations

from typing import Any, NoReturn

import typer


def start(command: Any, *arguments: Any, **flags: Any) -> NoReturn:
    """Runs `command(*arguments, settings)` with the settings that the environment and `flags` make.

    Ends the command with its exit status, as `typer.Exit`.
    """
    from fetchq_worker.cli.terminal.run import run_with_settings

    raise typer.Exit(run_with_settings(command, *arguments, **flags))
