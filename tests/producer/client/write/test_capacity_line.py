"""Which callers wait for capacity and which are admitted, decided without an event loop and without Redis."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fetchq.client.write.backpressure import LAST_CHECK_S, Line, TicketState


def test_an_empty_line_admits_at_once() -> None:
    line = Line(10)
    assert line.try_admit(1000), "nothing is reserved, and the script is to decide"


def test_callers_are_admitted_in_the_order_of_their_arrival() -> None:
    line = Line(2)
    tickets = [line.new_ticket() for _ in range(4)]
    for place in (2, 0, 3, 1):
        line.join(tickets[place], 1, 0.0)
    assert line.waiting == tickets
    assert not line.try_admit(1)
    assert line.admit(0, 1.0) == []
    assert line.admit(3, 1.0) == tickets[:3]
    assert [ticket.state for ticket in tickets] == [TicketState.ADMITTED] * 3 + [TicketState.WAITING]
    assert line.reserved == 3


def test_capacity_is_reserved_until_the_jobs_are_on_the_queue() -> None:
    line = Line(10)
    first, second = line.new_ticket(), line.new_ticket()
    line.join(first, 2, 0.0)
    assert line.admit(3, 0.0) == [first]
    assert not line.try_admit(2)
    assert line.try_admit(1), "the one beside the two reserved"
    assert not line.try_admit(1)
    line.release(first)
    assert first.state is TicketState.IDLE
    assert line.reserved == 0
    line.release(second)
    assert line.try_admit(5)


def test_a_large_batch_waits_for_a_worthwhile_part_but_not_longer_than_a_second() -> None:
    line = Line(100)
    ticket = line.new_ticket()
    line.join(ticket, 1000, 0.0)
    assert line.admit(24, 0.5) == []
    assert line.admit(25, 0.5) == [ticket]
    assert ticket.granted == 25
    line.join(ticket, 975, 1.0)
    assert line.reserved == 0, "to wait again ends what was reserved"
    assert line.admit(1, 1.0 + LAST_CHECK_S) == [ticket]
    assert ticket.granted == 1


def test_without_a_limit_all_are_admitted_whole() -> None:
    line = Line(None)
    tickets = [line.new_ticket() for _ in range(3)]
    for ticket in tickets:
        line.join(ticket, 500, 0.0)
    assert line.admit(None, 0.0) == tickets
    assert line.try_admit(10_000)


def test_an_abandoned_ticket_leaves_the_line_and_keeps_what_was_reserved_until_its_jobs_arrive() -> None:
    line = Line(10)
    waiting, admitted = line.new_ticket(), line.new_ticket()
    line.join(admitted, 2, 0.0)
    assert line.admit(5, 0.0) == [admitted]
    line.join(waiting, 2, 0.0)
    line.abandon(waiting)
    line.abandon(admitted)
    assert line.waiting == []
    assert line.reserved == 2
    line.release(admitted)
    assert line.reserved == 0
    assert {waiting.state, admitted.state} == {TicketState.ABANDONED}


@given(st.lists(st.tuples(st.sampled_from(["join", "admit", "release", "abandon"]), st.integers(0, 4)), max_size=60))
def test_what_is_reserved_is_what_was_granted_and_the_line_stays_in_order(steps: list[tuple[str, int]]) -> None:
    line = Line(20)
    tickets = [line.new_ticket() for _ in range(5)]
    for now, (step, number) in enumerate(steps):
        ticket = tickets[number]
        if step == "join" and ticket.state in (TicketState.IDLE, TicketState.ADMITTED):
            line.join(ticket, number + 1, float(now))
        elif step == "admit":
            line.admit(number, float(now))
        elif step == "release":
            line.release(ticket)
        elif step == "abandon":
            line.abandon(ticket)
        assert line.reserved == sum(ticket.granted for ticket in tickets)
        assert [ticket.state is TicketState.WAITING for ticket in tickets] == [t in line.waiting for t in tickets]
        assert all(a.number < b.number for a, b in pairwise(line.waiting))
