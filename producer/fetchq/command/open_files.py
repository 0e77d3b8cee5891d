"""The limit of open files of a process. For the program that owns the process, not for a library."""

from __future__ import annotations

import os


def raise_open_files() -> None:
    """Raises the limit of open files as far as the system allows, as Go programs do.

    The usual limit of 1,024 is for programs that wait with `select`. Each open connection takes a file.
    """
    if os.name != "posix":
        return
    import resource  # noqa: PLC0415 - Windows has none

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def open_files() -> int:
    """How many files, connections included, this process may have open."""
    if os.name != "posix":
        return 8192  # of Windows' C library

    import resource  # noqa: PLC0415

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
