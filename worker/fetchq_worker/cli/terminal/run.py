"""Runs one command: its coroutine on an event loop; a failure becomes one sentence and an exit status."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from fetchq import FetchqError
from fetchq_worker.settings import LISTS, Settings, split_list

from .exit_status import ExitStatus, cannot_write, failure_of
from .text import printable

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run(command: Callable[[], Coroutine[Any, Any, ExitStatus]], loop_factory: LoopFactory | None = None) -> ExitStatus:
    """Runs what `command` returns, prints the sentence of its failure, and returns the exit status.

    `command` itself is called before the event loop runs, with that loop as the thread's.
    """
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            asyncio.set_event_loop(runner.get_loop())
            try:
                status = runner.run(command())
            finally:
                asyncio.set_event_loop(None)
        sys.stdout.flush()
    except FetchqError as problem:
        failure = failure_of(problem)
    except OSError as problem:  # of stdout: all other errors are translated where they come in
        failure = cannot_write("to stdout", problem)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    else:
        return status
    if str(failure):
        print_error(str(failure))
    if failure.status is ExitStatus.PIPE_CLOSED:
        leave_stdout()
    return failure.status


def run_with_settings(
    command: Callable[..., Coroutine[Any, Any, ExitStatus]],
    *arguments: Any,
    loop_factory: LoopFactory | None = None,
    **flags: Any,
) -> ExitStatus:
    """Runs `command(*arguments, settings)`. Flags take precedence over the settings of the environment."""

    def with_settings() -> Coroutine[Any, Any, ExitStatus]:
        for name in LISTS:
            texts = flags.pop(name, None)
            if texts:
                flags[name] = [value for text in texts for value in split_list(text)]
        return command(*arguments, Settings.from_env(**flags))

    return run(with_settings, loop_factory)


def print_error(sentence: str) -> None:
    """Prints one line on stderr, since stdout is for results."""
    sys.stderr.write(f"fetchq: {printable(sentence)}\n")
    sys.stderr.flush()


def leave_stdout() -> None:
    """Points stdout at /dev/null, so that the interpreter's last flush into a closed pipe reports no error."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)


@contextmanager
def on_stop_signal(stop: Callable[[signal.Signals], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `stop` on the event loop. A second signal ends the process at once."""
    loop = asyncio.get_running_loop()
    stopping = False

    def on_signal(signum: signal.Signals) -> None:
        nonlocal stopping
        if stopping:
            if sys.stderr.isatty():
                sys.stderr.write("\x1b[?25h\n")  # a progress bar hides the cursor
                sys.stderr.flush()
            os._exit(128 + signum)
        stopping = True
        stop(signum)

    signals = (signal.SIGINT, signal.SIGTERM)
    for signum in signals:
        loop.add_signal_handler(signum, on_signal, signum)
    try:
        yield
    finally:
        for signum in signals:
            loop.remove_signal_handler(signum)
