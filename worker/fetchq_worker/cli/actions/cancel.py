"""`fetchq cancel`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from fetchq import CancelOutcome, JobNotFound
from fetchq_worker.cli.terminal.exit_status import CommandFailed, ExitStatus
from fetchq_worker.cli.terminal.redis_client import reached_producer
from fetchq_worker.cli.terminal.streams import print_error
from fetchq_worker.cli.terminal.text import printable
from fetchq_worker.settings import Settings

PROGRESS_S: Final = 2.0
"""Time between two lines of progress."""


async def cancel(
    job_ids: Sequence[str], tag: str | None, host: str | None, everything: bool, settings: Settings
) -> ExitStatus:
    """Prints the outcome of each job, a line each; for a filter, the counts."""
    if (bool(job_ids), tag is not None or host is not None, everything).count(True) != 1:
        sentence = "give job ids, or --tag TAG or --host HOST, or --all"
        raise CommandFailed(sentence, ExitStatus.USAGE)
    if not job_ids:
        return await _cancel_all(tag, host, settings)
    async with reached_producer(settings) as producer:
        outcomes = await producer.cancel_many(job_ids)
    for job_id, outcome in zip(job_ids, outcomes, strict=True):
        sys.stdout.write(f"{printable(job_id)} {outcome}\n")
    if CancelOutcome.NOT_FOUND in outcomes:
        raise CommandFailed(str(JobNotFound(job_ids[outcomes.index(CancelOutcome.NOT_FOUND)])), ExitStatus.FAILED)
    return ExitStatus.OK


async def _cancel_all(tag: str | None, host: str | None, settings: Settings) -> ExitStatus:
    total: Counter[CancelOutcome] = Counter()
    shown_at = time.monotonic()
    async with reached_producer(settings) as producer:
        async for counts in producer.cancel_all(tag=tag, host=host):
            total.update(counts)
            if time.monotonic() - shown_at >= PROGRESS_S:
                shown_at = time.monotonic()
                print_error(f"{total.total():,} jobs so far")
    cancelled, requested = total[CancelOutcome.CANCELLED], total[CancelOutcome.REQUESTED]
    sys.stdout.write(f"{cancelled} cancelled, {requested} running and asked to stop\n")
    return ExitStatus.OK
