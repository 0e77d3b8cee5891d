"""Where the logs of a command go: to stderr, since stdout is for results."""

from __future__ import annotations

import logging
import sys


def configure_logs(level: str, *, each_job: bool = False) -> None:
    """Lines on stderr from `level` (such as WARNING) upwards, our own events and the libraries' alike.

    What is said of each job, arq's start and end and the fetch's outcome, would be most of a worker's work at thousands
    of jobs a second: only if asked for by `each_job`.
    """
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if each_job:
        logging.getLogger("fetchq.fetch").setLevel(logging.DEBUG)
    else:
        logging.getLogger("arq.worker").setLevel(logging.WARNING)
