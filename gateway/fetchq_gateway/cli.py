"""`fetchq-gateway`: the gateway's command without the worker's, where `fetchq-worker` is not installed."""

from __future__ import annotations

from typing import NoReturn

import click

from fetchq import __version__
from fetchq.command.command_line import CONTEXT, run_command_line
from fetchq.command.option_types import Group
from fetchq.command.streams import prepare_streams

from .command import serve


@click.group(cls=Group, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="fetchq-gateway", message="%(prog)s %(version)s")
def app() -> None:
    """The HTTP gateway of the fetchq task queue."""


app.add_command(serve)


def main() -> NoReturn:
    """The entry point: runs the command line and ends the process with its exit status."""
    prepare_streams()
    run_command_line(app, "fetchq-gateway")
