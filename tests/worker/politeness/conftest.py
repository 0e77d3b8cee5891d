"""A site on loopback and a client for it, as in the fetch's tests."""

from tests.worker.fetch.conftest import fetcher, pytest_asyncio_loop_factories, site

__all__ = ["fetcher", "pytest_asyncio_loop_factories", "site"]
