"""The jobs that every Python peer runs: the same code under every queue."""

import asyncio
import os
import ssl
import time
from typing import Any

import aiohttp


def new_session(context: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """One session for the process, as aiohttp advises. The worker's concurrency is the only limit."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=context or True))


async def fetch(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """The response as JSON, since that is the wire format of some peers; the site's bodies are ASCII text."""
    async with session.get(url) as response:
        body = await response.text()
        return {"status": response.status, "body": body}


async def empty() -> None:
    """Does nothing: only the cost of the queue remains."""


async def stamp() -> int:
    """The start time of the job.

    On Linux CLOCK_MONOTONIC is one clock for all processes, so the producer can subtract.
    """
    return time.monotonic_ns()


async def nap() -> None:
    await asyncio.sleep(1.0)


async def hold(path: str, hold_s: float) -> None:
    """Appends a line to `path`, then sleeps.

    The job whose worker is killed: the file shows when it starts again.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{time.monotonic_ns()}\n".encode())
    finally:
        os.close(descriptor)
    await asyncio.sleep(hold_s)
