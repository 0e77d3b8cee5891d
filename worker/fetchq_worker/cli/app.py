"""The command line: the groups of commands of `cli.commands` under one name.

No command's own modules are imported before it runs, so that `--help` is fast.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Annotated

import typer
from typer.exceptions import TyperException

from fetchq_worker.cli.commands.acl import app as acl_app
from fetchq_worker.cli.commands.dead_letters import app as dead_app
from fetchq_worker.cli.commands.fetch import app as fetch_app
from fetchq_worker.cli.commands.jobs import app as jobs_app
from fetchq_worker.cli.commands.limits import app as limits_app
from fetchq_worker.cli.commands.queue import app as queue_app
from fetchq_worker.cli.commands.start import LoadedOnUse
from fetchq_worker.cli.commands.worker import app as worker_app

app = typer.Typer(
    name="fetchq",
    help="An async fetch task queue: enqueue URL fetches on Redis, run the workers, get the results.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
# In the order of the help.
app.add_typer(fetch_app)
app.add_typer(worker_app)
app.add_typer(jobs_app)
app.add_typer(acl_app)
app.add_typer(dead_app, name="dead")
app.add_typer(queue_app)
app.add_typer(limits_app, name="limits")


def main() -> None:
    """The entry point: runs the command line and ends the process with its exit status."""
    # redis-py 5 imports it for a login that fetchq does not use, which takes 40 ms.
    if find_spec("jwt") is not None:
        sys.modules.setdefault("jwt", LoadedOnUse("jwt"))
    try:
        status = app(prog_name="fetchq", standalone_mode=False)
    except TyperException as problem:
        context = getattr(problem, "ctx", None)
        path = context.command_path if context is not None else "fetchq"
        sentence = problem.format_message().rstrip(".")
        sys.stderr.write(f"{path}: {sentence}; see {path} --help\n")
        status = problem.exit_code
    sys.exit(status)


@app.callback(invoke_without_command=True)
def _fetchq(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from fetchq import __version__

        typer.echo(f"fetchq {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)
