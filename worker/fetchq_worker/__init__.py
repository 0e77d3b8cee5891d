"""fetchq_worker: the processes that fetch.

`fetch_data` is the job; `WorkerSettings` and `worker_settings` are for the stock `arq` command. Each is loaded when it
is first asked for, so that `fetchq --help` need not wait for an HTTP client. The fetch awaited in place, inside a
coroutine of one's own, is `fetchq_worker.fetch.fetch`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fetchq_worker.fetch.job.coroutine import fetch_data
    from fetchq_worker.process.arq_settings import WorkerSettings, worker_settings

__all__ = ["WorkerSettings", "fetch_data", "worker_settings"]

_HOMES: Final = {
    "WorkerSettings": "process.arq_settings",
    "fetch_data": "fetch.job.coroutine",
    "worker_settings": "process.arq_settings",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)
