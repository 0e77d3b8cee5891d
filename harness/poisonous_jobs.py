"""Jobs that kill their worker: `fetchq worker --settings harness.poisonous_jobs:Settings`.

One does so in the start hook, one in the fetch, one in the end hook. The process exits at once, without clean-up, as
when it is out of memory.
"""

from __future__ import annotations

import os
from typing import Any, Final

from arq.worker import func

from fetchq.contract.job_ids import id_for_key
from fetchq_worker.fetch.http.redirect import Hop
from fetchq_worker.process.arq_settings import worker_settings

STATUS: Final = 86
POISON_TRIES: Final = 2
POISONOUS_URL: Final = "http://a.test/poison"
"""The URL whose fetch kills its worker, as a crash in a decoder would."""


KEY_DEADLY_AT_START: Final = "deadly at its start"
KEY_DEADLY_AT_END: Final = "deadly at its end"
"""Idempotency keys of jobs whose hook kills their worker."""
_QUEUE: Final = "arq:queue"


async def poison(ctx: dict[str, Any]) -> None:
    os._exit(STATUS)


async def harmless(ctx: dict[str, Any], number: int) -> int:
    return number


async def on_startup(ctx: dict[str, Any]) -> None:
    """Makes the fetch of `POISONOUS_URL` end the process just before it is sent."""
    send = ctx["fetcher"].send

    async def send_or_die(hop: Hop, *rest: Any) -> Any:
        if hop.url == POISONOUS_URL:
            os._exit(STATUS)
        return await send(hop, *rest)

    ctx["fetcher"].send = send_or_die


async def on_job_start(ctx: dict[str, Any]) -> None:
    if ctx["job_id"] == id_for_key(KEY_DEADLY_AT_START, _QUEUE):
        os._exit(STATUS)


async def on_job_end(ctx: dict[str, Any]) -> None:
    if ctx["job_id"] == id_for_key(KEY_DEADLY_AT_END, _QUEUE):
        os._exit(STATUS)


Settings: Final = worker_settings(
    functions=[func(poison, max_tries=POISON_TRIES), harmless],
    on_startup=on_startup,
    on_job_start=on_job_start,
    on_job_end=on_job_end,
)
