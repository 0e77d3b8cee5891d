"""The fetch: one request to one result, over HTTP. `attempt.run_attempt` is the place to begin reading."""

from fetchq_worker.fetch.http.client import Fetcher
from fetchq_worker.fetch.job.coroutine import fetch, fetch_data

__all__ = ["Fetcher", "fetch", "fetch_data"]
