"""The fetch: one request to one result, over HTTP.

Start reading at `job.coroutine.fetch_data`, then `attempt.attempt.run_attempt`.
"""

from fetchq_worker.fetch.attempt.fetcher import Fetcher
from fetchq_worker.fetch.job.coroutine import fetch, fetch_data

__all__ = ["Fetcher", "fetch", "fetch_data"]
