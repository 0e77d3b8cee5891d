"""Creates workers from settings classes, as arq does and by arq's own function.

Tools such as Sentry's replace `arq.worker.create_worker` to wrap the functions and cron jobs of every worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any, Final, cast

import arq.worker

from .worker import Worker

_arq_makes_ours: Final = Lock()


def create_worker(settings_cls: object, **kwargs: Any) -> Worker:
    """A worker with the own attributes of `settings_cls` as arguments. `kwargs` take precedence.

    `settings_cls` is a class, a mapping, or an object with attributes. Those that are not arguments of `Worker` are
    ignored, and so are inherited ones, as arq does.
    """
    settings = dict(settings_cls) if isinstance(settings_cls, Mapping) else settings_cls
    with _arq_makes_ours:
        stock = arq.worker.Worker
        arq.worker.Worker = Worker  # type: ignore[misc]  # the class whose arguments arq reads, and which it calls
        try:
            return cast("Worker", arq.worker.create_worker(cast("Any", settings), **kwargs))
        finally:
            arq.worker.Worker = stock  # type: ignore[misc]


def run_worker(settings_cls: object, **kwargs: Any) -> Worker:
    """Creates a worker and runs it until it is stopped by a signal or, in a burst, until the queue is empty."""
    worker = create_worker(settings_cls, **kwargs)
    worker.run()
    return worker
