"""The command line: the commands of `cli.commands` under one name.

No command's own modules are imported before it runs, so that `--help` is fast.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import NoReturn

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
from fetchq_worker.cli.commands.queue import pause, resume, status, top
from fetchq_worker.cli.commands.start import LoadedOnUse
from fetchq_worker.cli.commands.worker import worker


@click.group(cls=Group, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="fetchq", message="%(prog)s %(version)s")
def app() -> None:
    """An async fetch task queue: enqueue URL fetches on Redis, run the workers, get the results."""


for _command in (fetch, worker, enqueue, result, cancel, dead, status, top, pause, resume, limits, acl, completion):
    app.add_command(_command)


def main() -> NoReturn:
    """The entry point: runs the command line and ends the process with its exit status."""
    # redis-py 5 imports it for a login that fetchq does not use, which takes 40 ms.
    if find_spec("jwt") is not None:
        sys.modules.setdefault("jwt", LoadedOnUse("jwt"))
    run_command_line(app, "fetchq", completion_variable=COMPLETION_VARIABLE)
