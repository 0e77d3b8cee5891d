"""The jobs that every Python peer runs: the same code under every queue."""

import asyncio
import os
import time
from typing import Any

import aiohttp


def new_session() -> aiohttp.ClientSession:
    """As aiohttp advises: one session for the process. The worker's concurrency is the only limit."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


async def fetch(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """The answer as JSON can carry it, since that is some peers' wire format; the site's bodies are ASCII text."""
    async with session.get(url) as response:
        body = await response.text()
        return {"status": response.status, "body": body}


async def empty() -> None:
    """Nothing: what is left is the queue's own cost."""


async def stamp() -> int:
    """When the job started. On Linux CLOCK_MONOTONIC is one clock for all processes, so the producer can subtract."""
    return time.monotonic_ns()


async def nap() -> None:
    await asyncio.sleep(1.0)


async def hold(path: str, hold_s: float) -> None:
    """Sign `path`, one line a start, and stay: the job that is killed, and seen when it starts again."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{time.monotonic_ns()}\n".encode())
    finally:
        os.close(descriptor)
    await asyncio.sleep(hold_s)
