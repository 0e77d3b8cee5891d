"""fetchq: put URL fetches on a Redis queue from any service, and get the results back.

async with Producer.from_url("redis://localhost:6379") as producer:
    job = await producer.enqueue("https://example.org/")
    result = await job.result(timeout_s=30)
"""

from .errors import (
    FETCH_ERRORS,
    FetchError,
    FetchqError,
    InvalidRedisURL,
    InvalidRequest,
    JobFailed,
    JobNotFound,
    KeyConflict,
    NewerWireVersion,
    RedisRefused,
    RedisUnavailable,
    ResultTimeout,
    WireError,
)
from .job import CancelOutcome, FetchJob, Job, JobStatus
from .priority import Priority
from .producer import Producer
from .request import FetchRequest, RetryPolicy
from .result import Attempt, FetchResult, Redirect, Timing
from .status import FetchStatus
from .sync import SyncFetchJob, SyncJob, SyncProducer

__version__ = "0.1.0"

__all__ = [
    "FETCH_ERRORS",
    "Attempt",
    "CancelOutcome",
    "FetchError",
    "FetchJob",
    "FetchRequest",
    "FetchResult",
    "FetchStatus",
    "FetchqError",
    "InvalidRedisURL",
    "InvalidRequest",
    "Job",
    "JobFailed",
    "JobNotFound",
    "JobStatus",
    "KeyConflict",
    "NewerWireVersion",
    "Priority",
    "Producer",
    "Redirect",
    "RedisRefused",
    "RedisUnavailable",
    "ResultTimeout",
    "RetryPolicy",
    "SyncFetchJob",
    "SyncJob",
    "SyncProducer",
    "Timing",
    "WireError",
    "__version__",
]
