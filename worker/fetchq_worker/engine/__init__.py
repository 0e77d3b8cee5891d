"""The engine: arq's worker with claims, commits and renewals in batches, leases and fencing tokens.

It runs any coroutine that a job names and contains nothing about HTTP.
"""

from fetchq_worker.engine.run.snooze import Snooze

from .create import create_worker, run_worker
from .worker import Worker

__all__ = ["Snooze", "Worker", "create_worker", "run_worker"]
