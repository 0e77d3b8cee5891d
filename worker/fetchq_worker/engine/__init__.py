"""The engine: arq's worker with claims, commits and renewals in batches, leases and fencing tokens.

It knows nothing of HTTP: whatever coroutine a job names is run.
"""

from fetchq_worker.engine.run.snooze import Snooze

from .worker import Worker

__all__ = ["Snooze", "Worker"]
