"""Creates workers from settings classes, as arq does."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from .worker import Worker

WORKER_ARGUMENTS: Final = frozenset(inspect.signature(Worker).parameters)


def create_worker(settings_cls: type | Mapping[str, Any], **kwargs: Any) -> Worker:
    """A worker with the own attributes of `settings_cls` (a class or a mapping) as arguments. `kwargs` take precedence.

    Attributes that are not arguments of `Worker` are ignored.
    """
    described = settings_cls if isinstance(settings_cls, Mapping) else vars(settings_cls)
    arguments = {name: value for name, value in described.items() if name in WORKER_ARGUMENTS}
    return Worker(**{**arguments, **kwargs})


def run_worker(settings_cls: type | Mapping[str, Any], **kwargs: Any) -> Worker:
    """Creates a worker and runs it until it is stopped by a signal or, in a burst, until the queue is empty."""
    worker = create_worker(settings_cls, **kwargs)
    worker.run()
    return worker
