"""Stopping: what runs ends or is given back, and nothing that was finished is forgotten."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from fetchq.store.errors import REDIS_ERRORS
from fetchq_worker.engine.queue.commit import Action, Outcome

if TYPE_CHECKING:
    from .worker import Worker

logger = logging.getLogger("fetchq.engine")

CANCELLED_RUN_S: Final = 10.0
"""How long a cancelled run may take to clean up before its job is given back without it."""
LAST_COMMIT_S: Final = 5.0
"""How long a stopping worker tries to hear of its last claim and to commit while Redis is away or hung."""


async def drain(worker: Worker) -> None:
    """Waits for what runs, gives back what did not finish, and commits it all."""
    running = tuple(worker.tasks.values())
    if running:
        await asyncio.wait(running, timeout=CANCELLED_RUN_S if worker.stopping else None)
    _give_back_unfinished(worker)
    try:
        async with asyncio.timeout(LAST_COMMIT_S):
            await _give_back_unstarted_claim(worker)
            await worker.committer.flush()
    except TimeoutError:
        logger.warning("stop.commit_timed_out after %0.1fs", LAST_COMMIT_S)
    await worker.committer.aclose()


async def _give_back_unstarted_claim(worker: Worker) -> None:
    """A claim that was on its way when the worker was told to stop has taken jobs that nobody runs."""
    if worker.claiming is None:
        return
    try:
        claim = await worker.claiming
    except REDIS_ERRORS as problem:
        logger.warning("stop.claim_unheard: %s", problem)
        return
    for lease in claim.leases:
        worker.committer.add(Outcome(lease, Action.RELEASE))


def _give_back_unfinished(worker: Worker) -> None:
    """A task that was cancelled before its first step left its lease behind; so did a run that would not end."""
    for lease in tuple(worker.leases):
        lease.lost = True  # whatever its run may still do, it decides nothing any more
        worker.leases.discard(lease)
        worker.committer.add(Outcome(lease, Action.RELEASE))
