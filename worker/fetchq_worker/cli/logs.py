"""Where the logs of a command go: to stderr, since stdout is for results."""

from __future__ import annotations

import logging
import sys


def configure_logs(level: str) -> None:
    """Lines on stderr from `level` (such as WARNING) upwards, our own events and the libraries' alike."""
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
