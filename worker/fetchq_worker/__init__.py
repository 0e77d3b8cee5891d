"""fetchq_worker: the worker processes.

`Worker`, `create_worker` and `run_worker` take the place of arq's. `fetch_data` is the fetch as a job; awaited inside
your own coroutine it is `fetchq_worker.fetch.fetch`. A coroutine raises `Snooze` to go back to the queue uncounted.
`worker_settings` makes settings classes, and `WorkerSettings` is the one that the `FETCHQ_*` variables describe; both
also run under the stock `arq` command. Each name is imported when it is first used, so that `fetchq --help` does not
load an HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fetchq_worker.engine.create import create_worker, run_worker
    from fetchq_worker.engine.run.snooze import Snooze
    from fetchq_worker.engine.worker import Worker
    from fetchq_worker.fetch.job.coroutine import fetch_data
    from fetchq_worker.process.arq_settings import WorkerSettings, worker_settings

__all__ = [
    "Snooze",
    "Worker",
    "WorkerSettings",
    "create_worker",
    "fetch_data",
    "run_worker",
    "worker_settings",
]

_MODULES: Final = {
    "Snooze": "engine.run.snooze",
    "Worker": "engine.worker",
    "WorkerSettings": "process.arq_settings",
    "create_worker": "engine.create",
    "fetch_data": "fetch.job.coroutine",
    "run_worker": "engine.create",
    "worker_settings": "process.arq_settings",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{module}", __name__), name)
