"""The coroutines of the drill: `fetchq worker --settings harness.drill.coroutines:Settings`."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from fetchq_worker.process.arq_settings import worker_settings


async def work(_ctx: dict[str, Any], seconds: float) -> None:
    """A job that takes a slot for a while."""
    await asyncio.sleep(seconds)


async def fail(_ctx: dict[str, Any]) -> None:
    raise RuntimeError("a fault of the drill")


async def block(_ctx: dict[str, Any], seconds: float) -> None:
    """Blocks the event loop of its worker."""
    time.sleep(seconds)  # noqa: ASYNC251 - what it is for


Settings: Final = worker_settings(functions=[work, fail, block])
