"""The next step of a wait for results, decided without an event loop and without Redis."""

from __future__ import annotations

from fetchq.client.results import CHECK_BATCH, Check, Disconnect, Sleep, Subscribe, WaitList, WaitPhase

CHECK_S, OUTAGE_S = 2.0, 10.0
ONE, TWO = "aaaaaaaa1", "bbbbbbbb1"
CHANNEL_ONE, CHANNEL_TWO = "done:aaaaaaaa", "done:bbbbbbbb"


def phase_of(waits: WaitList) -> WaitPhase:
    """Not narrowed by type checkers."""
    return waits.phase


def waits_for(*ids: str, confirmed: bool = True) -> WaitList:
    """A wait list at time 0, with subscriptions sent and, by default, confirmed and checked."""
    waits = WaitList("done:", CHECK_S, OUTAGE_S)
    for job_id in ids:
        waits.add(job_id, 0.0)
    assert isinstance(waits.next_step(0.0), Subscribe)
    if confirmed:
        for channel in list(waits.ids):
            waits.on_subscribed(channel)
        step = waits.next_step(0.0)
        assert isinstance(step, Check)
        waits.on_checked(step.ids)
    return waits


def test_an_id_is_checked_once_its_channel_is_confirmed_and_not_before() -> None:
    waits = WaitList("done:", CHECK_S, OUTAGE_S)
    assert phase_of(waits) is WaitPhase.IDLE
    waits.add(ONE, 0.0)
    assert phase_of(waits) is WaitPhase.WAITING
    assert waits.next_step(0.0) == Subscribe({CHANNEL_ONE}, set())
    assert waits.next_step(0.1) == Sleep(CHECK_S)
    waits.on_subscribed(CHANNEL_ONE)
    assert waits.next_step(0.2) == Check([ONE])
    assert waits.unseen == {ONE}
    waits.on_checked([ONE])
    assert waits.unseen == set()
    assert waits.next_step(0.3) == Sleep(CHECK_S)


def test_another_id_on_a_confirmed_channel_is_checked_at_once() -> None:
    waits = waits_for(ONE)
    waits.add("aaaaaaaa2", 0.5)
    assert waits.next_step(0.5) == Check(["aaaaaaaa2"])


def test_a_push_leads_to_a_check_of_the_ids_that_are_waited_for() -> None:
    waits = waits_for(ONE, TWO)
    waits.on_published(CHANNEL_ONE, [ONE, "aaaaaaaa9"])
    assert waits.next_step(0.5) == Check([ONE])
    waits.on_published(CHANNEL_ONE, [ONE])
    assert waits.next_step(0.5) == Check([ONE]), "a push during a check leads to another"


def test_all_ids_are_checked_again_after_check_s() -> None:
    waits = waits_for(ONE, TWO)
    assert waits.next_step(CHECK_S - 0.1) == Sleep(CHECK_S)
    step = waits.next_step(CHECK_S)
    assert isinstance(step, Check)
    assert set(step.ids) == {ONE, TWO}
    assert waits.next_step(CHECK_S) == Sleep(2 * CHECK_S)


def test_a_check_is_bounded() -> None:
    waits = waits_for(*(f"aaaaaaaa{number}" for number in range(CHECK_BATCH + 5)))
    step = waits.next_step(0.0)
    assert isinstance(step, Check)
    assert len(step.ids) == 5


def test_without_ids_for_a_whole_check_s_the_connection_is_closed() -> None:
    waits = waits_for(ONE)
    waits.remove(ONE)
    assert waits.next_step(1.0) == Sleep(CHECK_S)
    assert waits.next_step(CHECK_S) == Disconnect()
    assert phase_of(waits) is WaitPhase.IDLE
    waits.add(TWO, 5.0)
    assert phase_of(waits) is WaitPhase.WAITING
    assert waits.next_step(5.0) == Subscribe({CHANNEL_TWO}, set())
    assert waits.next_step(5.0) == Sleep(5.0 + CHECK_S)


def test_channels_without_ids_are_unsubscribed_when_there_are_many() -> None:
    ids = [f"{letter * 8}1" for letter in "abcdef"]
    waits = waits_for(*ids)
    for job_id in ids[1:]:
        waits.remove(job_id)
    step = waits.next_step(0.5)
    assert isinstance(step, Subscribe)
    assert (set(step.channels), len(step.leave)) == (set(), 5)
    assert waits.subscribed == waits.confirmed == {CHANNEL_ONE}


def test_a_lost_connection_is_subscribed_again_and_all_are_checked() -> None:
    waits = waits_for(ONE, TWO)
    waits.on_disconnected()
    assert waits.next_step(0.5) == Subscribe({CHANNEL_ONE, CHANNEL_TWO}, set())
    step = waits.next_step(0.5)
    assert isinstance(step, Check)
    assert set(step.ids) == {ONE, TWO}


def test_an_outage_is_waited_out_if_redis_was_there_before() -> None:
    waits = waits_for(ONE)
    assert not waits.on_failed(1.0, reached=True)
    assert phase_of(waits) is WaitPhase.UNAVAILABLE
    assert not waits.on_failed(1.0 + OUTAGE_S, reached=True)
    waits.on_checked([ONE])
    assert (waits.phase, waits.failures) == (WaitPhase.WAITING, 0)
    assert not waits.on_failed(30.0, reached=True)
    assert waits.on_failed(30.1 + OUTAGE_S, reached=True)
    assert phase_of(waits) is WaitPhase.WAITING


def test_a_redis_that_was_never_reached_fails_the_waits_at_once() -> None:
    waits = waits_for(ONE, confirmed=False)
    assert waits.on_failed(0.1, reached=False)
