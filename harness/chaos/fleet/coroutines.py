"""The coroutines of a chaos run: `fetchq worker --settings harness.chaos.fleet.coroutines:Settings`.

Each run first appends a line with its token and its job to a file of its process, in one write, so that the line
survives a SIGKILL. A result contains the token of its run.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Final

from arq.worker import func

from fetchq_worker.process.arq_settings import worker_settings

RUNS_FOLDER_ENV: Final = "CHAOS_RUNS_FOLDER"
PATIENT: Final = 1_000_000
BLOCKED_TRIES: Final = 3
"""Tries of a job that blocks for longer than the lease: each looks like a crash, so the job ends when they are used
up."""


async def open_runs(ctx: dict[str, Any]) -> None:
    path = Path(os.environ[RUNS_FOLDER_ENV]) / f"{os.getpid()}.runs"
    ctx["runs"] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _note_run(ctx: dict[str, Any]) -> str:
    token: str = ctx["fetchq"].lease_token
    os.write(ctx["runs"], f"{token} {ctx['job_id']}\n".encode())
    return token


async def mark(ctx: dict[str, Any], number: int, wait_s: float) -> list[str | int]:
    """A job that waits, as for a response."""
    token = _note_run(ctx)
    await asyncio.sleep(wait_s)
    return [token, number]


async def block(ctx: dict[str, Any], number: int, block_s: float) -> list[str | int]:
    """A job that blocks the event loop of its worker, lease renewals included."""
    token = _note_run(ctx)
    time.sleep(block_s)  # noqa: ASYNC251 - that it blocks is the fault
    return [token, number]


async def ignore_cancellation(ctx: dict[str, Any], number: int, wait_s: float) -> list[str | int]:
    """Ignores every cancellation."""
    token = _note_run(ctx)
    until = time.monotonic() + wait_s
    while (left_s := until - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left_s)
        except asyncio.CancelledError:
            continue
    return [token, number]


Settings: Final = worker_settings(
    functions=[
        func(mark, max_tries=PATIENT),
        func(block, max_tries=BLOCKED_TRIES),
        func(ignore_cancellation, max_tries=PATIENT),
    ],
    on_startup=open_runs,
)
