"""Runs one command: its coroutine on an event loop; a failure becomes one sentence and an exit status."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from fetchq.errors import FetchqError

from .exit_status import ExitStatus, failure_of
from .streams import fail_to_write, flush_stdout, leave_stdout, print_error

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run(command: Callable[[], Coroutine[Any, Any, ExitStatus]], loop_factory: LoopFactory | None = None) -> int:
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
        flush_stdout()
    except FetchqError as problem:
        failure = failure_of(problem)
    except OSError as problem:  # of stdout: all other errors are translated where they come in
        return fail_to_write("to stdout", problem)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    else:
        return status
    if str(failure):
        print_error(str(failure))
    try:
        flush_stdout()
    except OSError:  # the failure is reported already
        leave_stdout()
    return failure.status


@contextmanager
def on_stop_signal(stop: Callable[[signal.Signals], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `stop` on the event loop. A second signal ends the process at once."""
    loop = asyncio.get_running_loop()
    stopping = False

    def on_signal(signum: signal.Signals) -> None:
        nonlocal stopping
        if stopping:
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
