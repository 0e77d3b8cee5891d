"""The `fetchq` command."""

from __future__ import annotations

import sys

from fetchq.command.streams import fail_to_write, flush_stderr, prepare_streams
from fetchq_worker.health_check import run_if_check


def main() -> None:
    """The entry point: runs the command line and ends the process with its exit status."""
    prepare_streams()
    try:
        status = run_if_check(sys.argv[1:])  # before the command line is loaded, which takes longer
    except OSError as problem:
        status = fail_to_write("to stdout", problem)
    if status is not None:
        flush_stderr()
        sys.exit(status)
    try:
        from .app import main as run_app  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.exit(130)
    run_app()


__all__ = ["main"]
