"""Where the logs of a command go: to stderr, since stdout is for results."""

from __future__ import annotations

import logging
import sys


def configure_logs(level: str, *, each_job: bool = False) -> None:
    """Lines on stderr from `level` (such as WARNING) upwards, our own events and the libraries' alike.

    arq logs two lines a job at INFO, which at thousands of jobs a second is most of what a worker would do: only if
    asked for by `each_job`.
    """
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if not each_job:
        logging.getLogger("arq.worker").setLevel(logging.WARNING)
