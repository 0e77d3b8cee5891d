"""The fetch: one request to one result, over HTTP. `attempt.run_attempt` is the place to begin reading."""

from .client import Fetcher
from .job import fetch, fetch_data

__all__ = ["Fetcher", "fetch", "fetch_data"]
