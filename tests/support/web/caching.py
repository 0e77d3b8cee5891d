"""Fetches through the HTTP cache."""

from __future__ import annotations

from typing import Any, Final

from fetchq import FetchRequest, FetchResult, RetryPolicy
from fetchq.store.keys import Keys
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.cache.shared_cache import SharedCache

ONCE: Final = RetryPolicy(max_tries=1)


def caching_worker(redis: Any, **options: Any) -> Fetcher:
    """The client of a worker whose cache is in that Redis."""
    shared_cache = SharedCache(redis, Keys())
    return Fetcher(user_agent="fetchq-tests/1", allow_net=("127.0.0.0/8",), shared_cache=shared_cache, **options)


async def cached_fetch(fetcher: Fetcher, url: str, **options: Any) -> FetchResult:
    return await fetch({"fetcher": fetcher}, FetchRequest.of(url, retry=ONCE, cache=True, **options))
