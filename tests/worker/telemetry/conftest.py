"""Workers on a Redis, a site on loopback, and a client that may fetch from it."""

from tests.worker.engine.conftest import make_worker, new_client, real_redis, redis
from tests.worker.fetch.conftest import fetcher, pytest_asyncio_loop_factories, site

__all__ = ["fetcher", "make_worker", "new_client", "pytest_asyncio_loop_factories", "real_redis", "redis", "site"]
