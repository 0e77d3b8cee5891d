"""The `fetchq` command."""

from __future__ import annotations

import sys

from fetchq_worker.health_check import run_if_check


def main() -> None:
    """The entry point: runs the command line and ends the process with its exit status."""
    status = run_if_check(sys.argv[1:])  # before the command line is loaded, which takes half a second
    if status is not None:
        sys.exit(status)
    from .app import main as run_app  # noqa: PLC0415

    run_app()


__all__ = ["main"]
