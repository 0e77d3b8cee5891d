"""A site on loopback, and a client that may fetch from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest_asyncio
import uvloop
from tests.support.web.site import Site

from fetchq_worker.fetch import Fetcher


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """uvloop, as in the worker."""
    return {"uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    """A site whose responses the test sets."""
    site = Site()
    await site.start()
    yield site
    await site.stop()


@pytest_asyncio.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    """A client that may connect to loopback. Its retries have no delay, since the jitter draws 0."""
    async with Fetcher(user_agent="fetchq-tests/1", allow_net=("127.0.0.0/8", "::1/128"), draw=lambda: 0.0) as fetcher:
        yield fetcher
