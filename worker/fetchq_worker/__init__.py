"""fetchq_worker: the processes that fetch.

`fetch_data` is the job; `WorkerSettings` and `worker_settings` are for the stock `arq` command. Each is loaded when it
is first asked for, so that `fetchq --help` need not wait for an HTTP client. The fetch awaited in place, inside a
coroutine of one's own, is `fetchq_worker.fetch.fetch`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .arq_settings import WorkerSettings, worker_settings
    from .fetch.job import fetch_data

__all__ = ["WorkerSettings", "fetch_data", "worker_settings"]

_HOMES: Final = {
    "WorkerSettings": "arq_settings",
    "fetch_data": "fetch.job",
    "worker_settings": "arq_settings",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)
