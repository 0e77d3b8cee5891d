"""One typed function for each Lua script, in classes that are bound to the key names of one queue."""

from .cache import CacheCommands
from .dead_letters import DeadLetterCommands, RetryJob, StoredDeadLetter
from .hosts import HostCommands, LimitsReply
from .jobs import (
    AbortsReply,
    AdmitJob,
    AdmitReply,
    CancelJob,
    ClaimReply,
    CommitGroup,
    CommitReply,
    EnqueuedBatch,
    JobCommands,
    NewJob,
    ReportedJob,
)
from .queue import QueueCommands, QueueReply
from .workers import Report, WorkerCommands

__all__ = [
    "AbortsReply",
    "AdmitJob",
    "AdmitReply",
    "CacheCommands",
    "CancelJob",
    "ClaimReply",
    "CommitGroup",
    "CommitReply",
    "DeadLetterCommands",
    "EnqueuedBatch",
    "HostCommands",
    "JobCommands",
    "LimitsReply",
    "NewJob",
    "QueueCommands",
    "QueueReply",
    "Report",
    "ReportedJob",
    "RetryJob",
    "StoredDeadLetter",
    "WorkerCommands",
]
