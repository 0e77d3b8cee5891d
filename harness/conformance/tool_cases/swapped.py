"""Runs a settings class by arq's own functions, with fetchq's class in the place of arq's.

The settings, and so their tool, are imported first: what the tool has wrapped is arq's.
"""

from __future__ import annotations

import sys

import arq
import arq.worker
from arq.utils import import_string


def main() -> None:
    settings = import_string(sys.argv[1])
    from fetchq_worker import Worker

    arq.worker.Worker = arq.Worker = Worker  # type: ignore[misc]
    arq.worker.run_worker(settings)


if __name__ == "__main__":
    main()
