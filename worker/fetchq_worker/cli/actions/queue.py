"""`fetchq pause` and `resume`."""

from __future__ import annotations

from fetchq.command.exit_status import ExitStatus
from fetchq_worker.cli.terminal.redis_client import reached_producer
from fetchq_worker.settings import Settings


async def pause_queue(settings: Settings) -> ExitStatus:
    async with reached_producer(settings) as producer:
        await producer.pause()
    return ExitStatus.OK


async def resume_queue(settings: Settings) -> ExitStatus:
    async with reached_producer(settings) as producer:
        await producer.resume()
    return ExitStatus.OK
