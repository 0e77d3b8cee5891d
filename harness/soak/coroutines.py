"""The coroutines of a soak run, beside the fetch: `fetchq worker --settings harness.soak.coroutines:Settings`."""

from __future__ import annotations

import os
from typing import Any, Final, cast

from arq.typing import WorkerCoroutine
from arq.worker import func

from fetchq_worker.process.arq_settings import worker_settings

RESULT_TTL_ENV: Final = "SOAK_RESULT_TTL_S"
DEFAULT_RESULT_TTL_S: Final = 2.0
EMPTY: Final = "empty"


async def empty(_ctx: dict[str, Any]) -> None:
    """Does nothing, so that only the queue's own data remains."""


Settings: Final = worker_settings(
    functions=[
        func(
            cast(WorkerCoroutine, empty),
            name=EMPTY,
            keep_result=float(os.environ.get(RESULT_TTL_ENV, DEFAULT_RESULT_TTL_S)),
        )
    ]
)
