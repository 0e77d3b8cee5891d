"""The event loop of the commands that run jobs."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop

from fetchq_worker.engine.event_loop import run_to_end


class WorkerLoop(uvloop.Loop):
    """uvloop's, which a job's sub-task cannot end by `SystemExit` or `loop.stop()`."""

    def run_until_complete(self, future: Any) -> Any:
        return run_to_end(super().run_until_complete, asyncio.ensure_future(future, loop=self))
