"""An arena for each test, on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest_asyncio
import uvloop
from harness.egress.arena import Arena, make_arena


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """uvloop, as in the worker."""
    return {"uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def arena() -> AsyncIterator[Arena]:
    """A client that may connect to no local address, and one that may connect to a redirecting server only."""
    async with make_arena() as arena:
        yield arena
