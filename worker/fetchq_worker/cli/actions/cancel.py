"""`fetchq cancel`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from fetchq import CancelOutcome, JobNotFound
from fetchq.command.exit_status import CommandFailed, ExitStatus
from fetchq.command.streams import print_error
from fetchq_worker.cli.terminal.redis_client import reached_producer
from fetchq_worker.settings import Settings

from .outcomes import print_counts, print_outcomes

PROGRESS_S: Final = 2.0
"""Time between two lines of progress."""


async def cancel(
    job_ids: Sequence[str], wanted: Mapping[str, str], everything: bool, as_json: bool, settings: Settings
) -> ExitStatus:
    """Prints the outcome of each job, a line each; for the filter `wanted` (`tag`, `host`), the counts."""
    if (bool(job_ids), bool(wanted), everything).count(True) != 1:
        sentence = "give job ids, or --tag TAG or --host HOST, or --all"
        raise CommandFailed(sentence, ExitStatus.USAGE)
    for name, text in wanted.items():
        if not text:  # as of an unset variable of a shell
            raise CommandFailed(f"--{name} takes a {name}, not ''", ExitStatus.USAGE)
    if not job_ids:
        return await _cancel_all(wanted, as_json, settings)
    async with reached_producer(settings) as producer:
        outcomes = await producer.cancel_many(job_ids)
    print_outcomes(job_ids, outcomes, as_json)
    if CancelOutcome.NOT_FOUND in outcomes:
        raise CommandFailed(str(JobNotFound(job_ids[outcomes.index(CancelOutcome.NOT_FOUND)])), ExitStatus.FAILED)
    return ExitStatus.OK


async def _cancel_all(wanted: Mapping[str, str], as_json: bool, settings: Settings) -> ExitStatus:
    total: Counter[CancelOutcome] = Counter()
    shown_at = time.monotonic()
    async with reached_producer(settings) as producer:
        async for counts in producer.cancel_all(tag=wanted.get("tag"), host=wanted.get("host")):
            total.update(counts)
            if time.monotonic() - shown_at >= PROGRESS_S:
                shown_at = time.monotonic()
                print_error(f"{total.total():,} jobs so far")
    cancelled, requested = total[CancelOutcome.CANCELLED], total[CancelOutcome.REQUESTED]
    text = f"{cancelled} cancelled, {requested} running and asked to stop"
    print_counts({"cancelled": cancelled, "requested": requested}, text, as_json)
    return ExitStatus.OK
