"""The command line: the commands of `cli.commands` under one name.

No command's own modules are imported before it runs, so that `--help` is fast.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import click

from fetchq import __version__
from fetchq_worker.cli.commands.acl import acl
from fetchq_worker.cli.commands.completion import COMPLETION_VARIABLE, completion
from fetchq_worker.cli.commands.dead_letters import dead
from fetchq_worker.cli.commands.fetch import fetch
from fetchq_worker.cli.commands.jobs import cancel, enqueue, result
from fetchq_worker.cli.commands.limits import limits
from fetchq_worker.cli.commands.option_types import Group, most_similar, spelling
from fetchq_worker.cli.commands.options import CONTEXT
from fetchq_worker.cli.commands.queue import pause, resume, status, top
from fetchq_worker.cli.commands.start import LoadedOnUse
from fetchq_worker.cli.commands.worker import worker
from fetchq_worker.cli.terminal.streams import fail_to_write, flush_stderr, flush_stdout, print_line, say


@click.group(cls=Group, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="fetchq", message="%(prog)s %(version)s")
def app() -> None:
    """An async fetch task queue: enqueue URL fetches on Redis, run the workers, get the results."""


for _command in (fetch, worker, enqueue, result, cancel, dead, status, top, pause, resume, limits, acl, completion):
    app.add_command(_command)


def main() -> None:
    """The entry point: runs the command line and ends the process with its exit status."""
    # redis-py 5 imports it for a login that fetchq does not use, which takes 40 ms.
    if find_spec("jwt") is not None:
        sys.modules.setdefault("jwt", LoadedOnUse("jwt"))
    try:
        exit_status = _run(sys.argv[1:])
        flush_stdout()
    except click.exceptions.NoArgsIsHelpError as problem:
        say(f"{problem.format_message()}\n")
        exit_status = problem.exit_code
    except click.ClickException as problem:
        print_line(_sentence(problem))
        exit_status = problem.exit_code
    except OSError as problem:  # of stdout, by --help and the like: a command's own are caught where it runs
        exit_status = fail_to_write("to stdout", problem)
    except (KeyboardInterrupt, click.Abort):
        exit_status = 130
    flush_stderr()
    sys.exit(exit_status)


def _run(arguments: list[str]) -> int:
    """As `app.main` without "standalone mode", which ends a closed pipe with a status of its own."""
    instruction = os.environ.get(COMPLETION_VARIABLE)
    if instruction:
        from click.shell_completion import shell_complete

        return shell_complete(app, {}, "fetchq", COMPLETION_VARIABLE, instruction)
    try:
        with app.make_context("fetchq", arguments) as context:
            app.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return 0


def _sentence(problem: click.ClickException) -> str:
    """The problem in one sentence; unless it is a value, with the command whose help explains it."""
    sentence = problem.format_message().rstrip(".")
    if type(problem) is click.BadParameter and problem.param is not None:
        return f"fetchq: {spelling(problem.param)}: {problem.message.rstrip('.')}"
    if isinstance(problem, click.NoSuchOption):
        similar = most_similar(problem.option_name, problem.possibilities or (), cutoff=0.0)
        sentence = f"no such option {problem.option_name}{f', did you mean {similar}?' if similar else ''}"
    elif isinstance(problem, click.MissingParameter):
        sentence = sentence.partition(". Choose from")[0]  # a list, in lines of its own, of what the metavar says
    context = getattr(problem, "ctx", None)
    path = "fetchq" if context is None else context.command_path
    return f"{path}: {sentence}; see {path} --help"
