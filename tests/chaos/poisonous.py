"""Jobs that take their worker with them: `fetchq worker --settings tests.chaos.poisonous:Settings`.

The process ends as one does whose memory is exhausted: at once, with nothing cleaned up and nothing said.
"""

from __future__ import annotations

import os
from typing import Any, Final

from arq.worker import func

from fetchq_worker.arq_settings import worker_settings
from fetchq_worker.fetch.redirect import Hop

STATUS: Final = 86
POISON_TRIES: Final = 2
POISONOUS_URL: Final = "http://a.test/poison"
"""Whose fetch kills its worker, as one would whose answer brings down a decoder."""


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


Settings: Final = worker_settings(functions=[func(poison, max_tries=POISON_TRIES), harmless], on_startup=on_startup)
