"""Jobs that take their worker with them: `fetchq worker --settings harness.poisonous_jobs:Settings`.

One does so in a hook, before its coroutine begins; another in the hook after it.

The process ends as one does whose memory is exhausted: at once, with nothing cleaned up and nothing said.
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
"""Whose fetch kills its worker, as one would whose answer brings down a decoder."""


KEY_DEADLY_AT_START: Final = "deadly at its start"
KEY_DEADLY_AT_END: Final = "deadly at its end"
"""Idempotency keys of jobs whose hook kills their worker."""
_QUEUE: Final = "arq:queue"


async def poison(ctx: dict[str, Any]) -> None:
    os._exit(STATUS)


async def harmless(ctx: dict[str, Any], number: int) -> int:
    return number


async def on_startup(ctx: dict[str, Any]) -> None:
    """Lets the fetch of `POISONOUS_URL` end the process when it is about to be sent."""
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
