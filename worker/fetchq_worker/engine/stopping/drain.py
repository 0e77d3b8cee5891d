"""Stopping a worker: its runs end or their jobs are requeued, and every outcome is committed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from fetchq.store.errors import REDIS_ERRORS, reason_of
from fetchq_worker.engine.queue.claim import Claim
from fetchq_worker.engine.queue.commit import Committer
from fetchq_worker.engine.queue.lease import Leases
from fetchq_worker.engine.queue.outcome import Action, Outcome

logger = logging.getLogger("fetchq.engine")

CANCELLED_RUN_S: Final = 1.0
"""How long a cancelled run may take to clean up; then its job is requeued although it has not ended."""
LAST_COMMIT_S: Final = 5.0
"""How long a stopping worker waits for its last claim and commit while Redis is unavailable."""


async def wait_grace(
    tasks: Mapping[Any, asyncio.Task[Any]], claiming: Callable[[], asyncio.Task[Claim] | None], grace_s: float
) -> None:
    """Returns when all runs have ended, those of a claim in flight included, or after `grace_s`."""
    loop = asyncio.get_running_loop()
    until = loop.time() + grace_s
    while (remaining_s := until - loop.time()) > 0:
        running: set[asyncio.Task[Any]] = set(tasks.values())
        claim = claiming()
        if claim is not None and not claim.done():
            running.add(claim)
        if not running:
            return
        await asyncio.wait(running, timeout=remaining_s)


async def wait_runs(tasks: Iterable[asyncio.Task[Any]], *, cancelled: bool) -> None:
    """Waits for the runs. `cancelled`: they were cancelled, so the wait is bounded."""
    running = tuple(tasks)
    if running:
        await asyncio.wait(running, timeout=CANCELLED_RUN_S if cancelled else None)


async def requeue_and_commit(leases: Leases, committer: Committer, claiming: asyncio.Task[Claim] | None) -> None:
    """Requeues the jobs of the runs that have not ended, and commits all outcomes."""
    _requeue_unfinished(leases, committer)
    try:
        async with asyncio.timeout(LAST_COMMIT_S):
            await _requeue_unstarted(claiming, committer)
            await committer.flush()
    except TimeoutError:
        logger.warning("shutdown.commit_timed_out after %0.1fs", LAST_COMMIT_S)
    await committer.aclose()


async def _requeue_unstarted(claiming: asyncio.Task[Claim] | None, committer: Committer) -> None:
    """Requeues the jobs of a claim that was in flight when the worker was stopped: they have no run."""
    if claiming is None:
        return
    try:
        claim = await claiming
    except REDIS_ERRORS as problem:
        logger.warning("shutdown.claim_unacknowledged error=%s", reason_of(problem))
        return
    for lease in claim.leases:
        committer.add(Outcome(lease, Action.REQUEUE))


def _requeue_unfinished(leases: Leases, committer: Committer) -> None:
    """Requeues the jobs of runs that do not end, and of tasks that were cancelled before their first step."""
    for lease in tuple(leases):
        lease.lose()  # if its run ends later, it has no outcome
        leases.discard(lease)
        committer.add(Outcome(lease, Action.REQUEUE))
