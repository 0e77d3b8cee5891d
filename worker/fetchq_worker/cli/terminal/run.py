"""Runs a command with the worker's settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fetchq.command.exit_status import ExitStatus
from fetchq.command.run import LoopFactory, run
from fetchq.command.settings import Given
from fetchq.command.streams import print_error
from fetchq_worker.settings import SUPERVISED_ENV, Settings, unknown_variables


def run_with_settings(
    command: Callable[..., Coroutine[Any, Any, ExitStatus]],
    *arguments: Any,
    given: Mapping[str, Given],
    loop_factory: LoopFactory | None = None,
) -> int:
    """Runs `command(*arguments, settings)`."""

    def with_settings() -> Coroutine[Any, Any, ExitStatus]:
        return command(*arguments, Settings.of(given))

    return run(with_settings, loop_factory)


def warn_of_unknown_variables() -> None:
    """Names each variable that begins as fetchq's do and is none of them, since its value has no effect."""
    if SUPERVISED_ENV in os.environ:
        return  # the supervisor has said it
    for name, similar in unknown_variables(os.environ).items():
        print_error(f"{name} is not a variable of fetchq{f'; did you mean {similar}?' if similar else ''}")
