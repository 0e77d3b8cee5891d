"""Runs a command line of click's: its errors are one sentence, and the process ends with its exit status."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from .option_types import most_similar, spelling
from .streams import fail_to_write, flush_stderr, flush_stdout, print_line, say

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
"""Of every command."""


def run_command_line(app: click.Group, program: str, *, completion_variable: str = "") -> NoReturn:
    """Runs the command that `sys.argv` names. `completion_variable` is set where a shell asks for completions."""
    try:
        exit_status = _run(app, program, completion_variable)
        flush_stdout()
    except click.exceptions.NoArgsIsHelpError as problem:
        say(f"{problem.format_message()}\n")
        exit_status = problem.exit_code
    except click.ClickException as problem:
        print_line(_sentence(problem, program))
        exit_status = problem.exit_code
    except OSError as problem:  # of stdout, by --help and the like: a command's own are caught where it runs
        exit_status = fail_to_write("to stdout", problem)
    except (KeyboardInterrupt, click.Abort):
        exit_status = 130
    flush_stderr()
    sys.exit(exit_status)


def _run(app: click.Group, program: str, completion_variable: str) -> int:
    """As `app.main` without "standalone mode", which ends a closed pipe with a status of its own."""
    instruction = os.environ.get(completion_variable)
    if instruction:
        from click.shell_completion import shell_complete  # noqa: PLC0415  # a command needs it never

        return shell_complete(app, {}, program, completion_variable, instruction)
    try:
        with app.make_context(program, sys.argv[1:]) as context:
            app.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return 0


def _sentence(problem: click.ClickException, program: str) -> str:
    """The problem in one sentence; unless it is a value, with the command whose help explains it."""
    sentence = problem.format_message().rstrip(".")
    if not isinstance(problem, click.UsageError):
        return sentence
    if type(problem) is click.BadParameter and problem.param is not None:
        return f"{program}: {spelling(problem.param)}: {problem.message.rstrip('.')}"
    if isinstance(problem, click.NoSuchOption):
        similar = most_similar(problem.option_name, problem.possibilities or (), cutoff=0.0)
        sentence = f"no such option {problem.option_name}{f', did you mean {similar}?' if similar else ''}"
    elif isinstance(problem, click.MissingParameter):
        sentence = sentence.partition(". Choose from")[0]  # a list, in lines of its own, of what the metavar says
    context = getattr(problem, "ctx", None)
    path = program if context is None else context.command_path
    return f"{path}: {sentence}; see {path} --help"
