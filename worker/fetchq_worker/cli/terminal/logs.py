"""Logging of a command: to stderr, since stdout is for results."""

from __future__ import annotations

import logging
import sys


def configure_logs(level: str, *, each_job: bool = False) -> None:
    """Logs events from `level` (such as WARNING) upwards on stderr, those of the libraries too.

    The lines of each job (arq's start and end, the fetch's outcome) are logged only with `each_job`: at thousands of
    jobs a second they cost more than the fetches.
    """
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if each_job:
        logging.getLogger("fetchq.fetch").setLevel(logging.DEBUG)
    else:
        logging.getLogger("arq.worker").setLevel(logging.WARNING)
