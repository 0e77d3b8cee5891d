"""The limit of open files of a worker process. For the program that owns the process, not for a library."""

from __future__ import annotations

import resource


def raise_open_files() -> None:
    """Raises the limit of open files as far as the system allows, as Go programs do.

    The usual limit of 1,024 is for programs that wait with `select`. Each host with an idle connection takes a file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
