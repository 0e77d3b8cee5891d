"""The states of a lease: every pair of state and event, and what cancels the run's task."""

from __future__ import annotations

from itertools import product
from unittest.mock import Mock

import pytest

from fetchq_worker.engine.queue.lease import TRANSITIONS, CancelReason, Lease, LeaseEvent, LeaseState

CLAIMED, RUNNING, ENDED, LOST = LeaseState.CLAIMED, LeaseState.RUNNING, LeaseState.ENDED, LeaseState.LOST
START, CANCEL, LOSE, END = LeaseEvent.START, LeaseEvent.CANCEL, LeaseEvent.LOSE, LeaseEvent.END

EXPECTED = {
    (CLAIMED, START): RUNNING,
    (CLAIMED, CANCEL): CLAIMED,
    (CLAIMED, LOSE): LOST,
    (CLAIMED, END): ENDED,
    (RUNNING, START): None,
    (RUNNING, CANCEL): RUNNING,
    (RUNNING, LOSE): LOST,
    (RUNNING, END): ENDED,
    (ENDED, START): None,
    (ENDED, CANCEL): ENDED,
    (ENDED, LOSE): ENDED,
    (ENDED, END): ENDED,
    (LOST, START): None,
    (LOST, CANCEL): LOST,
    (LOST, LOSE): LOST,
    (LOST, END): LOST,
}


def _lease() -> Lease:
    lease = Lease(b"job", "w.1", b"", 0, 1)
    lease.task = Mock()
    return lease


@pytest.mark.parametrize(("state", "event"), list(product(LeaseState, LeaseEvent)))
def test_every_pair_of_state_and_event_has_one_next_state(state: LeaseState, event: LeaseEvent) -> None:
    assert TRANSITIONS[state][event] is EXPECTED[state, event]


def test_an_event_that_cannot_happen_raises_and_names_the_lease() -> None:
    lease = _lease()
    lease.apply(END)
    with pytest.raises(RuntimeError, match=r"<Lease job token=w.1 try=1 ended> cannot start"):
        lease.apply(START)


@pytest.mark.parametrize(("state", "cancels"), [(CLAIMED, False), (RUNNING, True), (ENDED, False), (LOST, False)])
def test_the_task_is_cancelled_only_while_the_users_code_has_control(state: LeaseState, cancels: bool) -> None:
    for end in (Lease.lose, Lease.expire, lambda lease: lease.cancel(CancelReason.ABORT)):
        lease = _lease()
        lease.state = state
        end(lease)
        assert lease.task is not None
        assert lease.task.cancel.called is cancels  # type: ignore[attr-defined]  # a mock


@pytest.mark.parametrize(("first", "second"), list(product(CancelReason, CancelReason)))
def test_the_highest_reason_decides_in_whatever_order_they_come(first: CancelReason, second: CancelReason) -> None:
    lease = _lease()
    lease.cancel(first)
    lease.cancel(second)
    assert lease.cancel_reason is max(first, second)
    assert lease.aborted is (CancelReason.ABORT in {first, second})
