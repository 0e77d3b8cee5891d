"""Counts requests beyond a host's limit, and which of them are explained by leases that had ended.

The limit counts runs that hold their leases. A worker that was frozen, or cut off from Redis, cannot know that a lease
has ended and that another run has its slot: its requests are counted separately. The site reports open requests;
Redis's append-only file shows how long each claim held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from harness.chaos.fleet.processes import Acknowledged
from harness.chaos.fleet.site import CountingSite

from fetchq.contract.wire import FETCH_FUNCTION

from .history import History, Hold


def judge_crowds(
    site: CountingSite, acknowledged: Sequence[Acknowledged], history: History, *, lease_ms: int, rolled_back: bool
) -> tuple[int, int]:
    """Returns the requests over the limit, and those beyond it that are explained by ended leases.

    `rolled_back`: Redis lost its latest changes, so claims may be missing from the history.
    """
    if not site.crowds:
        return 0, 0
    holds = _holds_by_number(acknowledged, history)
    over = 0
    for crowd in site.crowds:
        within = {
            number
            for number in crowd.numbers
            if not _is_past(holds.get(number, ()), crowd.at_ms, lease_ms=lease_ms, rolled_back=rolled_back)
        }
        over += len(within) > site.limit
    return over, len(site.crowds) - over


def _is_past(holds: Sequence[Hold], at_ms: int, *, lease_ms: int, rolled_back: bool) -> bool:
    """Whether no run of the job held its lease, although one did before.

    A job that never had a lease does not count.
    """
    if any(hold.first_end_ms - lease_ms <= at_ms <= hold.end_ms for hold in holds):
        return False
    return rolled_back or any(hold.end_ms < at_ms for hold in holds)


def _holds_by_number(acknowledged: Sequence[Acknowledged], history: History) -> Mapping[int, Sequence[Hold]]:
    """Includes jobs whose enqueue was never acknowledged: their results show what they fetched."""
    numbers = {job.id: job.number for job in acknowledged if job.kind == "fetch"}
    for job_id, commits in history.commits.items():
        if job_id not in numbers and (number := _fetched_number(commits[-1].value)) is not None:
            numbers[job_id] = number
    return {number: history.holds.get(job_id, ()) for job_id, number in numbers.items()}


def _fetched_number(value: bytes) -> int | None:
    try:
        stored = msgspec.msgpack.decode(value)
        if stored["f"] != FETCH_FUNCTION:
            return None
        return int(stored["a"][0]["url"].rpartition("/")[2])
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError):
        return None
