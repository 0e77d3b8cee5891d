"""Whether the limit of open files suffices for a worker process."""

from __future__ import annotations

import logging

from fetchq.command.open_files import open_files
from fetchq_worker.fetch.transport.pool import MAX_OPEN, open_limit

logger = logging.getLogger("fetchq.worker")


def warn_of_few_files(concurrency: int) -> None:
    """Says that not all fetches can have a connection, which would look like failures of their hosts."""
    if open_limit() < min(concurrency, MAX_OPEN):
        logger.warning(
            "open_files.few limit=%d concurrency=%d: fetches will fail for want of files; raise the limit (ulimit -n,"
            " LimitNOFILE of systemd), or run fewer at a time",
            open_files(),
            concurrency,
        )
