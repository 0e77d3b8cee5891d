"""fetchq: put URL fetches on a Redis queue from any service, and get the results back.

async with Producer.from_url("redis://localhost:6379") as producer:
    job = await producer.enqueue("https://example.org/")
    result = await job.result(timeout_s=30)

Each name is imported when it is first used, since redis-py takes a tenth of a second of CPU to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from .errors import (
    DeadLetterNotFound,
    DurabilityRefused,
    FetchqError,
    InvalidRedisURL,
    InvalidRequest,
    JobFailed,
    JobNotFound,
    KeyConflict,
    NewerWireVersion,
    NotDurable,
    QueueFull,
    RedisFull,
    RedisRefused,
    RedisUnavailable,
    ResultTimeout,
    WireError,
)

if TYPE_CHECKING:
    from fetchq.client.handles import CancelOutcome, FetchJob, Job, JobStatus
    from fetchq.client.hosts import HostState
    from fetchq.client.limits import HostLimits
    from fetchq.client.producer import Producer
    from fetchq.client.write.policy import Durability, WhenFull, WritePolicy
    from fetchq.contract.dead_letter import DeadLetter, RetryOutcome
    from fetchq.contract.priority import Priority
    from fetchq.contract.request import FetchRequest, RetryPolicy
    from fetchq.contract.result import FETCH_ERRORS, Attempt, FetchError, FetchResult, Redirect, Timing
    from fetchq.contract.status import FetchStatus
    from fetchq.sync.producer import SyncFetchJob, SyncJob, SyncProducer

__version__ = "0.1.0"

__all__ = [
    "FETCH_ERRORS",
    "Attempt",
    "CancelOutcome",
    "DeadLetter",
    "DeadLetterNotFound",
    "Durability",
    "DurabilityRefused",
    "FetchError",
    "FetchJob",
    "FetchRequest",
    "FetchResult",
    "FetchStatus",
    "FetchqError",
    "HostLimits",
    "HostState",
    "InvalidRedisURL",
    "InvalidRequest",
    "Job",
    "JobFailed",
    "JobNotFound",
    "JobStatus",
    "KeyConflict",
    "NewerWireVersion",
    "NotDurable",
    "Priority",
    "Producer",
    "QueueFull",
    "Redirect",
    "RedisFull",
    "RedisRefused",
    "RedisUnavailable",
    "ResultTimeout",
    "RetryOutcome",
    "RetryPolicy",
    "SyncFetchJob",
    "SyncJob",
    "SyncProducer",
    "Timing",
    "WhenFull",
    "WireError",
    "WritePolicy",
    "__version__",
]

_NAMES: Final = {
    "client.handles": "CancelOutcome FetchJob Job JobStatus",
    "client.hosts": "HostState",
    "client.limits": "HostLimits",
    "client.producer": "Producer",
    "client.write.policy": "Durability WhenFull WritePolicy",
    "contract.dead_letter": "DeadLetter RetryOutcome",
    "contract.priority": "Priority",
    "contract.request": "FetchRequest RetryPolicy",
    "contract.result": "Attempt FETCH_ERRORS FetchError FetchResult Redirect Timing",
    "contract.status": "FetchStatus",
    "sync.producer": "SyncFetchJob SyncJob SyncProducer",
}
_MODULES: Final = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f".{module}", __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
