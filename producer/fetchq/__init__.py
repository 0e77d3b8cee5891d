"""fetchq: put URL fetches on a Redis queue from any service, and get the results back.

async with Producer.from_url("redis://localhost:6379") as producer:
    job = await producer.enqueue("https://example.org/")
    result = await job.result(timeout_s=30)
"""

from fetchq.client.handles import CancelOutcome, FetchJob, Job, JobStatus
from fetchq.client.hosts import HostState
from fetchq.client.limits import HostLimits
from fetchq.client.producer import Producer
from fetchq.client.write_policy import Durability, WhenFull, WritePolicy
from fetchq.contract.dead_letter import DeadLetter, RetryOutcome
from fetchq.contract.priority import Priority
from fetchq.contract.request import FetchRequest, RetryPolicy
from fetchq.contract.result import FETCH_ERRORS, Attempt, FetchError, FetchResult, Redirect, Timing
from fetchq.contract.status import FetchStatus
from fetchq.sync.producer import SyncFetchJob, SyncJob, SyncProducer

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
