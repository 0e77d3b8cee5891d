"""The command line: the commands of `cli.commands` under one name.

No command's own modules are imported before it runs, so that `--help` is fast.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, NoReturn

import click

from fetchq import __version__
from fetchq.command.command_line import CONTEXT, run_command_line
from fetchq.command.option_types import Group
from fetchq_worker.cli.commands.acl import acl
from fetchq_worker.cli.commands.completion import COMPLETION_VARIABLE, completion
from fetchq_worker.cli.commands.dead_letters import dead
from fetchq_worker.cli.commands.fetch import fetch
from fetchq_worker.cli.commands.jobs import cancel, enqueue, result
from fetchq_worker.cli.commands.limits import limits
from fetchq_worker.cli.commands.queue import metrics, pause, resume, status, top
from fetchq_worker.cli.commands.start import LoadedOnUse
from fetchq_worker.cli.commands.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import EntryPoint

_DISTRIBUTIONS: Final = {"serve": "fetchq-gateway"}
"""Commands of other distributions, for the advice to install one."""


class _Commands(Group):
    """The worker's commands, and those that other distributions contribute by the entry points `fetchq.commands`.

    Entry points are read, which takes 10 ms, only where a name is none of the worker's, and for the help.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *(one.name for one in _entry_points() if one.name not in self.commands)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        if command is None and (found := next((one for one in _entry_points() if one.name == cmd_name), None)):
            command = found.load()
        if command is None and cmd_name in _DISTRIBUTIONS and not ctx.resilient_parsing:
            distribution = _DISTRIBUTIONS[cmd_name]
            raise _NotInstalled(f"fetchq {cmd_name} needs {distribution}: pip install {distribution}")
        return command


class _NotInstalled(click.ClickException):
    """A command of a distribution that is not installed."""

    exit_code = 2


def _entry_points() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points

    return entry_points(group="fetchq.commands")


@click.group(cls=_Commands, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="fetchq", message="%(prog)s %(version)s")
def app() -> None:
    """An async fetch task queue: enqueue URL fetches on Redis, run the workers, get the results."""


_COMMANDS = (fetch, worker, enqueue, result, cancel, dead, status, top, metrics, pause, resume, limits, acl, completion)
for _command in _COMMANDS:
    app.add_command(_command)


def main() -> NoReturn:
    """The entry point: runs the command line and ends the process with its exit status."""
    # redis-py 5 imports it for a login that fetchq does not use, which takes 40 ms.
    if find_spec("jwt") is not None:
        sys.modules.setdefault("jwt", LoadedOnUse("jwt"))
    run_command_line(app, "fetchq", completion_variable=COMPLETION_VARIABLE)
