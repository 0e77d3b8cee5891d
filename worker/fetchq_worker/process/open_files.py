"""The limit of open files of a worker process. For the program that owns the process, not for a library."""

from __future__ import annotations

import logging
import resource

from fetchq_worker.fetch.transport.pool import MAX_OPEN, open_limit

logger = logging.getLogger("fetchq.worker")


def raise_open_files() -> None:
    """Raises the limit of open files as far as the system allows, as Go programs do.

    The usual limit of 1,024 is for programs that wait with `select`. Each host with an idle connection takes a file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def warn_of_few_files(concurrency: int) -> None:
    """Says that not all fetches can have a connection, which would look like failures of their hosts."""
    if open_limit() < min(concurrency, MAX_OPEN):
        logger.warning(
            "open_files.few limit=%d concurrency=%d: fetches will fail for want of files; raise the limit (ulimit -n,"
            " LimitNOFILE of systemd), or run fewer at a time",
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            concurrency,
        )
