"""Runs one command: its coroutine on an event loop, its failures as a sentence and an exit status."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from fetchq import FetchqError
from fetchq_worker.cli.bulk.summary import printable
from fetchq_worker.settings import LISTS, Settings, split_list

from .exit_status import ExitStatus, cannot_write, failure_of

if sys.platform != "win32":
    from uvloop import new_event_loop
else:
    from asyncio import new_event_loop


def run(command: Coroutine[Any, Any, ExitStatus]) -> ExitStatus:
    """The exit status of `command`, after whatever it has to say is said."""
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            status = runner.run(command)
        sys.stdout.flush()
    except FetchqError as problem:
        failure = failure_of(problem)
    except OSError as problem:  # what else can fail is translated where it comes in; print() is not
        failure = cannot_write("to stdout", problem)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    else:
        return status
    if str(failure):
        say(str(failure))
    if failure.status is ExitStatus.PIPE_CLOSED:
        leave_stdout()
    return failure.status


def run_with_settings(
    command: Callable[..., Coroutine[Any, Any, ExitStatus]], *arguments: Any, **flags: Any
) -> ExitStatus:
    """Runs `command(*arguments, settings)`; the settings come from the environment, outranked by `flags`."""

    async def with_settings() -> ExitStatus:
        for name in LISTS:
            texts = flags.pop(name, None)
            if texts:
                flags[name] = [value for text in texts for value in split_list(text)]
        return await command(*arguments, Settings.from_env(**flags))

    return run(with_settings())


def say(sentence: str) -> None:
    """One sentence for the person, on stderr."""
    sys.stderr.write(f"fetchq: {printable(sentence)}\n")
    sys.stderr.flush()


def leave_stdout() -> None:
    """Points stdout at nothing, so that the interpreter's last flush into a closed pipe says nothing either."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)


@contextmanager
def on_stop_signal(stop: Callable[[signal.Signals], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `stop`, on the event loop. The second one ends the process where it stands."""
    loop = asyncio.get_running_loop()
    stopping = False

    def heed(signum: signal.Signals) -> None:
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
        loop.add_signal_handler(signum, heed, signum)
    try:
        yield
    finally:
        for signum in signals:
            loop.remove_signal_handler(signum)
