"""`fetchq top`: the live view on a terminal, one frame elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Final

from redis.asyncio import Redis

from fetchq import Producer
from fetchq.command.exit_status import CommandFailed, ExitStatus
from fetchq.command.redis_answer import ANSWER_S, wait_for_answer
from fetchq.command.streams import print_error
from fetchq.store.address import RedisAddress
from fetchq.store.connection import connect
from fetchq_worker.settings import Settings

from .frame import frame_lines
from .reader import Reader
from .view import View
from .words import UNICODE, glyphs_for

MIN_INTERVAL_S: Final = 0.2
_WIDTH: Final = 100
"""Of a frame that does not go to a terminal."""


async def watch(once: bool, interval_s: float, settings: Settings) -> int:
    """Shows the queue until a key or a signal ends it; with `once`, or without a terminal, one plain frame."""
    if interval_s < MIN_INTERVAL_S:
        raise CommandFailed(f"--interval takes at least {MIN_INTERVAL_S:g}s", ExitStatus.USAGE)
    address = RedisAddress.parse(settings.redis_url)
    redis: Redis = connect(address, socket_timeout_s=ANSWER_S)
    try:
        await wait_for_answer(redis)
        reader = Reader(redis, settings.keys)
        view = View(queue=settings.queue, redis=str(address), snapshot=await reader.read())
        if once or not _can_be_live():
            _print_frame(view)
            return ExitStatus.OK
        from .live import Live  # noqa: PLC0415 - needs a terminal as Unix has them

        producer = Producer(redis, queue=settings.queue, namespace=settings.namespace)
        view = View(queue=view.queue, redis=view.redis, snapshot=view.snapshot, interval_s=interval_s)
        return await Live(view, reader, producer, glyphs_for(os.environ)).run()
    finally:
        await redis.aclose()


def _can_be_live() -> bool:
    """Whether there is a terminal that can redraw its screen; one that cannot is named on stderr."""
    if sys.platform == "win32" or not (os.isatty(0) and os.isatty(1)):
        return False
    term = os.environ.get("TERM", "")
    if term in ("", "dumb", "unknown"):
        print_error(f"TERM is {term or 'not set'}, so this is one frame: a terminal that can redraw shows a live view")
        return False
    return True


def _print_frame(view: View) -> None:
    glyphs = glyphs_for(os.environ) if os.isatty(1) else UNICODE
    width = max(1, shutil.get_terminal_size((_WIDTH, 24)).columns)
    for line in frame_lines(view, width, None, glyphs):
        sys.stdout.write(f"{line.plain.rstrip()}\n")
